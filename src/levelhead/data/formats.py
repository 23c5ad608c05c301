"""How people write numbers: decimal commas, thousands, currencies, per cent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from levelhead.data.source import Reading

if TYPE_CHECKING:
    import polars as pl

_UNITS = "$€£¥%"
#: Words that are units where every cell has the same: a currency before, letters and the like behind.
_WORDS = (r"^([A-Z]{3})\s+[\d(.,+\-\u2212]", r"\d\s*([^\d\s.,+\-()%]{1,12})$")
#: What is taken for each sign between thousands.
_THOUSANDS = {"": "", ",": ",", ".": r"\.", " ": "[ \u00a0\u2009\u202f]", "'": "['’]", "_": "_"}


@dataclass(frozen=True, slots=True)
class Format:
    """A way to write numbers.

    Args:
        decimal: the decimal sign.
        thousands: what stands between thousands; empty where nothing does.
        unit: the sign that stands before or after every number; taken off.
    """

    decimal: str = "."
    thousands: str = ""
    unit: str = ""

    def parse(self, texts: pl.Series) -> pl.Series:
        """Texts as float64; null where a text is not a number so written."""
        import polars as pl

        if self == PLAIN and (values := texts.cast(pl.Float64, strict=False)).null_count() == texts.null_count():
            return values
        texts = texts.str.replace("^\u2212", "-").str.replace(r"^\((.*)\)$", "-$1")  # a minus sign, and accountants'
        if self == PLAIN:
            return texts.cast(pl.Float64, strict=False)
        unit, between = f"{re.escape(self.unit)}", _THOUSANDS[self.thousands]
        groups = rf"|\d{{1,3}}(?:{between}\d{{3}})+|\d{{1,2}}(?:{between}\d{{2}})+{between}\d{{3}}" if between else ""
        whole = rf"(?:\d+{groups})"  # India's groups, too, are of two but for the last
        number = rf"(?:{whole}(?:{re.escape(self.decimal)}\d*)?|{re.escape(self.decimal)}\d+)(?:[eE][+-]?\d+)?"
        before = f"(?:{unit})?" if unit != "%" else ""
        after = rf"\s*{unit}" if unit == "%" else rf"\s*(?:{unit})?"
        texts = texts.str.replace(rf"^([+-]?){before}\s*([+-]?)({number}){after}$", "\x01$1$2$3")
        texts = texts.set(~texts.str.starts_with("\x01"), None).str.strip_prefix("\x01")
        if between:
            texts = texts.str.replace_all(between, "")
        return texts.str.replace(self.decimal, ".", literal=True).cast(pl.Float64, strict=False)

    def words(self, example: str, value: float) -> str:
        """What a reader is told, with an example of the column."""
        parts = [f"a decimal {'comma' if self.decimal == ',' else 'point'}"]
        if self.thousands:
            parts.append(f"{self.thousands!r} between thousands")
        if self.unit:
            parts.append(f"{self.unit!r} taken off")
        return f"was read as numbers with {', '.join(parts)}: {example!r} is {value:.15g}"


PLAIN = Format()


def recognise(texts: pl.Series, reading: Reading) -> tuple[Format, Format | None]:
    """The format that most of the texts have, and another that fits them as well and gives other numbers.

    Args:
        texts: without gaps.
        reading: what the user says of them.
    """
    plain_allowed = reading.decimal in (None, ".") and reading.thousands is None
    if plain_allowed and not PLAIN.parse(texts).null_count():
        return PLAIN, None
    texts = texts.unique(maintain_order=True).head(5000)
    signs = "".join(texts.str.extract_all(f"[{_UNITS}]").explode().drop_nulls().unique().to_list())
    words = [texts.str.extract(pattern, 1).unique() for pattern in _WORDS]
    units = ["", *sorted(signs), *(found[0] for found in words if len(found) == 1 and not found.null_count())]
    decimals = [reading.decimal] if reading.decimal else [".", ","]
    thousands = [reading.thousands] if reading.thousands is not None else ["", ",", ".", " ", "'", "_"]
    candidates = [Format(d, t, u) for u in units for d in decimals for t in thousands if t != d]
    counted = [(len(texts) - (values := form.parse(texts)).null_count(), form, values) for form in candidates]
    most = max(count for count, _, _ in counted)
    best = [(form, values) for count, form, values in counted if count == most]
    form, values = best[0]
    return form, next((other for other, theirs in best[1:] if not theirs.equals(values)), None)
