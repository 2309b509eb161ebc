"""Dictionary encoding: texts that repeat, as numbers in columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]


class Dictionary:
    """Texts and their codes; None is 0. Verbs: encode, decode, matching, keep."""

    def __init__(self, texts: Iterable[str | None] = (None,)) -> None:
        self.texts: list[str | None] = list(texts)
        self._codes = {text: code for code, text in enumerate(self.texts)}

    def __len__(self) -> int:
        return len(self.texts)

    def __contains__(self, text: object) -> bool:
        return text in self._codes

    def encode(self, texts: Sequence[str | None]) -> Codes:
        """The codes of texts, those that are new included."""
        codes = self._codes
        for text in texts:
            if text not in codes:
                codes[text] = len(self.texts)
                self.texts.append(text)
        return np.fromiter(map(codes.__getitem__, texts), np.int32, len(texts))

    def decode(self, codes: NDArray[np.integer]) -> list[str | None]:
        """The texts of codes."""
        return list(map(self.texts.__getitem__, codes.tolist()))

    def matching(self, wanted: Callable[[str], bool]) -> Codes:
        """The codes of the texts for which `wanted` holds."""
        return np.array([i for i, text in enumerate(self.texts) if text is not None and wanted(text)], dtype=np.int32)

    def keep(self, columns: Iterable[Codes]) -> Codes:
        """Forget the texts that no column names; gives the new code of each old one."""
        used = np.zeros(len(self.texts), np.bool_)
        used[0] = True
        for codes in columns:
            used[codes] = True
        moved = np.cumsum(used, dtype=np.int32) - 1
        self.texts = [self.texts[i] for i in np.flatnonzero(used).tolist()]
        self._codes = {text: code for code, text in enumerate(self.texts)}
        return moved
