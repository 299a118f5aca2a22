"""A table below the canvas, whose rows lead to what they describe."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QTableWidget, QTableWidgetItem

_HEIGHT_PX = 180


class RowTable(QTableWidget):
    """Rows of numbers, sorted by a click on a column's head.

    Args:
        rows: of one set of columns.
        chosen: called with the index of a row that a person selects.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], chosen: Callable[[int], None]):
        columns = list(rows[0]) if rows else []
        super().__init__(len(rows), len(columns))
        self.setHorizontalHeaderLabels([column.replace("_", " ") for column in columns])
        self.verticalHeader().setVisible(False)
        self.setEditTriggers(self.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(self.SelectionBehavior.SelectRows)
        self.setSelectionMode(self.SelectionMode.SingleSelection)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                item = QTableWidgetItem()
                item.setData(Qt.ItemDataRole.DisplayRole, _shown(row[column]))
                item.setData(Qt.ItemDataRole.UserRole, i)
                self.setItem(i, j, item)
        self.setSortingEnabled(True)
        self.sortItems(0, Qt.SortOrder.AscendingOrder)
        self.resizeColumnsToContents()
        self.setMinimumHeight(_HEIGHT_PX)
        self._chosen = chosen
        self.itemSelectionChanged.connect(self._selected)

    def _selected(self) -> None:
        if items := self.selectedItems():
            self._chosen(items[0].data(Qt.ItemDataRole.UserRole))


def _shown(value: Any) -> Any:
    """Of numbers four digits; what Qt can sort."""
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.4g}")
    return value if isinstance(value, int | str) and not isinstance(value, bool) else str(value)


def show(viewer: Any, name: str, rows: Sequence[dict[str, Any]], chosen: Callable[[int], None]) -> RowTable:
    """Shows a table below the canvas, in the place of an earlier one of that name; without a window it is only made."""
    table = RowTable(rows, chosen)
    window = getattr(viewer, "window", None)
    if window is not None:
        if name in window.dock_widgets:
            window.remove_dock_widget(window.dock_widgets[name])
        window.add_dock_widget(table, name=name, area="bottom", tabify=True)
    return table
