"""Adapters by the thousand: a bank that keeps them in a few files, and folders of adapters read alike."""

from softcue.bank.bank import Bank as Bank
from softcue.bank.entry import Entry as Entry
from softcue.bank.folders import AdapterFolders as AdapterFolders
from softcue.bank.opening import open_source as open_source
from softcue.bank.source import Source as Source
