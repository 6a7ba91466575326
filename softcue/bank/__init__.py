"""Adapters by the thousand: a bank that keeps them in a few files, and folders of adapters read alike."""

from softcue.bank.bank import Bank as Bank
from softcue.bank.entry import Entry as Entry
from softcue.bank.source import Source as Source
