"""Thousands of adapters: a bank keeps them in a few files; folders of adapters have the same interface."""

from softcue.bank.bank import Bank as Bank
from softcue.bank.entry import Entry as Entry
from softcue.bank.folders import AdapterFolders as AdapterFolders
from softcue.bank.opening import open_source as open_source
from softcue.bank.source import Source as Source
