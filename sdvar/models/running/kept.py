"""Workspaces kept from decode to decode on a GPU, where their memory and their graphs are worth keeping."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

import torch

from sdvar.models.protocol import Cache, NextScaleModel
from sdvar.models.running.workspace import EagerWorkspace

KEPT = 4  # workspaces of a slot; each batch size, with guidance or without, needs one

Key = tuple[type[EagerWorkspace], int, bool]


class Slot:
    """Workspaces that take turns in the memory of one cache; those used last are kept.

    Args:
        model: the model.
    """

    def __init__(self, model: NextScaleModel) -> None:
        self.model = model
        self._cache: Cache | None = None
        self._rows = 0
        self._workspaces: OrderedDict[Key, EagerWorkspace] = OrderedDict()

    def take(self, kind: type[EagerWorkspace], images: int, guided: bool) -> EagerWorkspace:
        """A workspace, which then holds the slot; see `put`."""
        workspace = self._workspaces.pop((kind, images, guided), None)
        if workspace is None:
            workspace = kind(self.model, images, guided, self._memory(kind.cache_rows(images, guided)))
        return workspace

    def put(self, workspace: EagerWorkspace) -> None:
        """Take a workspace back."""
        self._workspaces[type(workspace), workspace.images, workspace.guided] = workspace
        while len(self._workspaces) > KEPT:
            self._workspaces.popitem(last=False)

    def _memory(self, rows: int) -> Cache:
        """A cache of so many rows; a larger one than before leaves what the kept workspaces use where it is."""
        if self._cache is None or rows > self._rows:
            try:
                self._cache = self.model.new_cache(rows)
            except torch.OutOfMemoryError:
                self._cache = None
                self._workspaces.clear()
                self._cache = self.model.new_cache(rows)
            self._rows = rows
        return self._cache.head(rows)


class KeptWorkspaces:
    """The slots of a model: as many as were in use at once, two where it is draft and target in one.

    Args:
        model: the model.
        state: of the model, on which the workspaces depend.
    """

    def __init__(self, model: NextScaleModel, state: Hashable) -> None:
        self.model, self.state = model, state
        self._free: list[Slot] = []
        # a decode that failed gives nothing back: its slot goes with the workspace
        self._used: WeakKeyDictionary[EagerWorkspace, Slot] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "state": None}

    def __setstate__(self, given: dict[str, Any]) -> None:  # copies of the model start without
        self.__init__(**given)  # type: ignore[misc]

    def take(self, kind: type[EagerWorkspace], images: int, guided: bool) -> EagerWorkspace:
        """A workspace that nobody uses."""
        slot = self._free.pop() if self._free else Slot(self.model)
        workspace = slot.take(kind, images, guided)
        self._used[workspace] = slot
        return workspace

    def give(self, workspace: EagerWorkspace) -> None:
        """Take back a workspace, unless what it depends on has changed since."""
        slot = self._used.pop(workspace, None)
        if slot is not None:
            slot.put(workspace)
            self._free.append(slot)
