"""What lies on disk: images decoded safely, manifests, journals, and files that are whole or absent.

- `to_image`, `load_sample`: anything that may stand for an image becomes an `Image`, or an error names the field and the file.
- `read_manifest`: rows of edits to be judged; a bad row is a row with a problem, not the end of the run.
- `Journal`: results written as they finish; the next run goes on where this one was cut off.
- `atomic_write`: the only way to write a result file.
- `cache_folder`: where this machine keeps what can be made or fetched again.
- `Wheel`: texts out of a wheel, parsed and never run.

numpy and Pillow only; pyarrow inside the branch that reads parquet.
"""

from editscore.data.files import atomic_write, remove_file
from editscore.data.images import decode_image, read_image, to_image
from editscore.data.journals import Journal, JournalMismatchError
from editscore.data.location import cache_folder
from editscore.data.manifests import Manifest, ManifestRow, read_manifest
from editscore.data.samples import check_instruction, load_sample
from editscore.data.wheels import Wheel, assigned_texts, text_literals

__all__ = [
    "Journal",
    "JournalMismatchError",
    "Manifest",
    "ManifestRow",
    "Wheel",
    "assigned_texts",
    "atomic_write",
    "cache_folder",
    "check_instruction",
    "decode_image",
    "load_sample",
    "read_image",
    "read_manifest",
    "remove_file",
    "text_literals",
    "to_image",
]
