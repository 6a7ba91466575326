"""Adapters: one task's parameters as a value, as a folder of two files, and in and out of seats."""

from softcue.adapter.folder import check_place as check_place
from softcue.adapter.folder import refuse_foreign as refuse_foreign
from softcue.adapter.header import OWN_ENCODER as OWN_ENCODER
from softcue.adapter.seats import lift as lift
from softcue.adapter.seats import seat_in as seat_in
from softcue.adapter.store import Adapter as Adapter
