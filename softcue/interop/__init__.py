"""Interop: softcue inside other libraries, one module for each of them."""
