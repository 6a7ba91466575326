"""Adapters by the thousand: a bank that keeps them in a few files, and folders of adapters read alike."""
