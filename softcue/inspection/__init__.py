"""Inspection: measures what an adapter does inside its encoder, and draws it."""

from softcue.inspection.attention import AttentionView as AttentionView
from softcue.inspection.attention import inspect_attention as inspect_attention
from softcue.inspection.cell import CellView as CellView
from softcue.inspection.cell import inspect_cell as inspect_cell
from softcue.inspection.gates import GatesView as GatesView
from softcue.inspection.gates import inspect_gates as inspect_gates
from softcue.inspection.plan import PlanView as PlanView
from softcue.inspection.plan import inspect_plan as inspect_plan
from softcue.inspection.selection import SelectionView as SelectionView
from softcue.inspection.selection import inspect_selection as inspect_selection
