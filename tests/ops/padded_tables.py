"""Tables as a captured graph has them: more rows, sequences, leaves and groups than there are, all of the surplus padding."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from attention_cases import Case
from editscore_kernels.page_tables import TableTensors

ROWS, LEAVES, WIDTH = 32, 8, 8


def padded(case: Case) -> tuple[Case, TableTensors]:
    """The case with queries for `ROWS` rows, and its tables padded to them; rows of the surplus belong to nobody."""
    tables = case.tables.tensors(torch.device("cpu"))
    surplus, leaves = ROWS - len(case.q), LEAVES - len(tables.leaf_lengths)
    widths = [max(0, WIDTH - table.shape[1]) for table in (tables.leaf_pages, tables.own_pages)]
    fixed = TableTensors(
        F.pad(tables.leaf_pages, (0, widths[0], 0, leaves)),
        F.pad(tables.leaf_lengths, (0, leaves)),
        F.pad(tables.own_pages, (0, widths[1], 0, ROWS - len(tables.own_pages))),
        F.pad(tables.seq_leaf, (0, ROWS - len(tables.seq_leaf)), value=-1),
        F.pad(tables.row_seq, (0, surplus), value=-1),
        F.pad(tables.row_lengths, (0, surplus), value=1),
        F.pad(tables.group_rows, (0, ROWS - len(tables.group_rows)), value=-1),
        F.pad(tables.group_starts, (0, LEAVES + 1 - len(tables.group_starts)), value=int(tables.group_starts[-1])),
    )
    return replace(case, q=torch.cat([case.q, torch.full((surplus, *case.q.shape[1:]), 7.0, dtype=case.q.dtype)])), fixed
