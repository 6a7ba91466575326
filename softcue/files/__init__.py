"""Files that are whole or absent: atomic writes, repair after a crash, and careful reading."""

from softcue.files.read import open_regular as open_regular
from softcue.files.read import parse_json as parse_json
from softcue.files.read import read_bytes as read_bytes
from softcue.files.read import read_json as read_json
from softcue.files.record import JsonRecord as JsonRecord
from softcue.files.write import as_path as as_path
from softcue.files.write import check_file as check_file
from softcue.files.write import check_folder as check_folder
from softcue.files.write import clear_unfinished as clear_unfinished
from softcue.files.write import reading as reading
from softcue.files.write import recover as recover
from softcue.files.write import refuse_filled as refuse_filled
from softcue.files.write import remove_folder as remove_folder
from softcue.files.write import resolve as resolve
from softcue.files.write import write_file as write_file
from softcue.files.write import write_folder as write_folder
