"""Find energy and carbon figures, with their sources: measured, estimated, or unavailable.

Measured: codecarbon reads the counters of the processor's package (RAPL) before and after a model's work.
They include everything that the package did meanwhile.

Estimated: the thermal design power per processor thread, times the processor seconds of the model. In a
virtual machine the number of the package's threads is unknown, so the power must be given.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from littlefoot.bench.report import ESTIMATED, MEASURED, UNAVAILABLE
from littlefoot.errors import ConfigError
from littlefoot.system import machine

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Source:
    """The source of energy figures on this machine."""

    kind: str
    """``MEASURED``, ``ESTIMATED`` or ``UNAVAILABLE``."""
    detail: str
    watts_per_thread: float | None = None
    """Watts of a processor thread, if ``ESTIMATED``."""


def find(tdp: float | None = None) -> Source:
    """Find the best available source.

    Args:
        tdp: watts of this machine's processor threads, if they are known.
    """
    installed = find_spec("codecarbon") is not None
    if installed and has_rapl():
        return Source(MEASURED, "all that the processor's package used meanwhile, by codecarbon")
    threads = machine.threads()
    if tdp is not None:
        detail = f"{tdp:g} W, as given, for {threads} threads"
        return Source(ESTIMATED, detail, tdp / threads)
    why = "no RAPL counters that may be read"
    remedy = "--tdp WATTS, the power of this machine's processor threads, gives an estimate"
    if not installed:
        return Source(
            UNAVAILABLE, f"codecarbon is not installed: pip install 'littlefoot[bench]'; or {remedy}"
        )
    if is_virtual():
        return Source(
            UNAVAILABLE, f"{why}, and of a virtual machine's processor the share is unknown; {remedy}"
        )
    watts = tdp_of_table()
    if watts is None:
        return Source(UNAVAILABLE, f"{why}, and the processor is in no table; {remedy}")
    return Source(
        ESTIMATED, f"{watts:g} W for {threads} threads, by codecarbon's table of processors", watts / threads
    )


def is_virtual() -> bool:
    """Return True if the processor declares that it belongs to a virtual machine."""
    return "hypervisor" in machine.flags()


def measured_joules(work: Callable[[], None]) -> float | None:
    """Measure the joules of the processor's package during ``work``; None if codecarbon has no figure."""
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code="USA",  # for carbon figures, which are not used
        tracking_mode="machine",
        save_to_file=False,
        log_level="critical",
        allow_multiple_runs=True,
    )
    tracker.start()
    try:
        work()
    finally:
        tracker.stop()
    data = getattr(tracker, "final_emissions_data", None)  # codecarbon swallows its own errors
    return float(data.cpu_energy) * JOULES_PER_KWH if data and data.cpu_energy else None


def carbon(country: str | None) -> tuple[float | None, str]:
    """Return grams of CO2 equivalent per kWh and their source. Raises ConfigError for an unknown country."""
    if find_spec("codecarbon") is None:
        if country is not None:
            raise ConfigError("--country needs the package 'codecarbon': pip install 'littlefoot[bench]'")
        return None, UNAVAILABLE
    from codecarbon.input import DataSource

    source: Any = DataSource  # has no types
    if country is None:
        average = source().get_carbon_intensity_per_source_data()["world_average"]
        return float(average), "average of the world, codecarbon's table"
    mix: dict[str, Any] = source().get_global_energy_mix_data()
    if country.upper() not in mix:
        raise ConfigError(f"--country {country} is unknown: use a code of three letters, such as FRA")
    entry = mix[country.upper()]
    return float(entry["carbon_intensity"]), f"{entry['country_name']} {entry['year']}, codecarbon's table"


def has_rapl() -> bool:
    from codecarbon.core.cpu import is_rapl_available

    _quiet()
    return bool(is_rapl_available())


def tdp_of_table() -> float | None:
    """Return the watts of the whole processor; None if the table lacks it (codecarbon would guess)."""
    from codecarbon.core.cpu import TDP

    _quiet()
    found = TDP.__new__(TDP)._get_cpu_power_from_registry(machine.processor())
    return None if found is None else float(found)


def _quiet() -> None:
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
