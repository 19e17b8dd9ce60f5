"""A user's own loss: found, and its options its own."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from raydistill.config.losses import CustomLoss
from raydistill.errors import Fault
from raydistill.losses import LossEntry

__all__ = ["custom_entry"]


def custom_entry(loss: CustomLoss, index: int, faults: list[Fault]) -> LossEntry:
    """The user's function as an entry.

    Args:
        loss: As configured.
        index: Its place under ``losses``.
        faults: Takes what is wrong with it.
    """
    path, module_name, name = f"losses.{index}.target", *loss.target.split(":")
    function: Callable[..., Any] = _missing
    parameters: Mapping[str, inspect.Parameter] = {}
    try:
        function = getattr(importlib.import_module(module_name), name)
        parameters = inspect.signature(function).parameters
    except Exception as error:
        faults.append(
            Fault(
                path,
                f"cannot be imported: {str(error) or type(error).__name__}. Its package must be installed, or in the working directory.",
            )
        )
    else:
        faults += [
            Fault(f"losses.{index}.options.{option}", f"is no argument of {loss.target}.")
            for option in loss.options
            if option not in parameters
            and not any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        ]
    known = dict.fromkeys(loss.options, _anything)
    if loss.needs == "logits" and "temperature" in parameters:
        known["temperature"] = _anything
    return LossEntry(loss.kind, function, frozenset({loss.needs}), "", options=known)


def _anything(value: object) -> None:  # noqa: ARG001 - a check that allows all
    return None


def _missing(*_: Any, **__: Any) -> Any:
    raise AssertionError("a loss that cannot be imported is refused before anything starts")
