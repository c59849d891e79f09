"""Money: whole micro-dollars, and the one place that turns text into them."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation

MICROS_PER_USD = 1_000_000
# Far above any sum of ours; a JSON number holds it exactly, which ends at 2^53.
MAX_MICROS = 10**15


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An amount of US dollars in whole micros (one millionth of a dollar)."""

    micros: int

    def __post_init__(self) -> None:
        """Refuse everything that is not a sane whole number.

        Raises:
            ValueError: the amount is not an `int`, or its size passes `MAX_MICROS`.
        """
        if type(self.micros) is not int or abs(self.micros) > MAX_MICROS:
            message = f"not an amount of whole micro-dollars: {self.micros!r}"
            raise ValueError(message)

    @classmethod
    def from_usd(cls, usd: str | Decimal) -> "Money":
        """Read dollars, rounding a fraction of a micro up (never in our own favour).

        Raises:
            ValueError: not a finite, non-negative decimal number.
        """
        try:
            amount = Decimal(usd)
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or amount < 0 or amount > MAX_MICROS:
            message = f"not an amount of dollars: {str(usd)!r}"
            raise ValueError(message)
        micros = (amount * MICROS_PER_USD).to_integral_value(rounding=ROUND_CEILING)
        return cls(int(micros))

    @classmethod
    def exactly(cls, usd: str) -> "Money":
        """Read dollars that somebody typed, who means no other amount.

        Raises:
            ValueError: not a finite, non-negative decimal number, or finer than a micro.
        """
        amount = cls.from_usd(usd)
        if Decimal(usd) != Decimal(amount.micros).scaleb(-6):
            message = f"finer than a millionth of a dollar: {usd!r}"
            raise ValueError(message)
        return amount

    def __add__(self, other: "Money") -> "Money":
        return Money(self.micros + other.micros)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.micros - other.micros)

    def __mul__(self, count: int) -> "Money":
        return Money(self.micros * count)

    def usd(self) -> str:
        """The amount as decimal text with six digits, for JSON: `0.002000`."""
        sign = "-" if self.micros < 0 else ""
        whole, fraction = divmod(abs(self.micros), MICROS_PER_USD)
        return f"{sign}{whole}.{fraction:06d}"

    def __str__(self) -> str:
        whole, fraction = self.usd().split(".")
        return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"


ZERO = Money(0)


def total(amounts: "list[Money] | tuple[Money, ...]") -> Money:
    """The sum of `amounts`, zero for none."""
    return Money(sum(amount.micros for amount in amounts))
