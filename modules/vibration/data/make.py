"""Makes the two vibration series that the module is shown and tested with.

Usage: python make.py        (needs numpy 2; see README.md)
Writes healthy.csv and faulty.csv (header `x`, one f32 acceleration in g a line) and prints
RMS, crest factor and kurtosis of each, over the whole series and by window.
healthy: harmonics of a shaft at 24.7 Hz and noise.
faulty:  the same machine with a damaged outer race: an impulse at every passing ball, 3.58
times a turn with 1% jitter as balls slip, each ringing at 1,050 Hz and dying away in 1.2 ms.
"""

from pathlib import Path

import numpy as np

RATE_HZ = 3200
SAMPLES = 4096
WINDOW = 512
SHAFT_HZ = 24.7
HARMONICS = ((1, 0.30), (2, 0.14), (3, 0.07), (5, 0.04))
NOISE_G = 0.09
BALL_PASS = 3.58
RING_HZ = 1050.0
DECAY_S = 0.0012
IMPULSE_G = 2.4
SEED = 411


def running(rng: np.random.Generator) -> np.ndarray:
    """The machine without a fault."""
    t = np.arange(SAMPLES) / RATE_HZ
    shaft = sum(
        size * np.sin(2 * np.pi * order * SHAFT_HZ * t + rng.uniform(0, 2 * np.pi))
        for order, size in HARMONICS
    )
    return shaft + rng.normal(0, NOISE_G, SAMPLES)


def impacts(rng: np.random.Generator) -> np.ndarray:
    """The decaying ringing of every ball that passes the damage."""
    t = np.arange(SAMPLES) / RATE_HZ
    period = 1 / (SHAFT_HZ * BALL_PASS)
    added = np.zeros(SAMPLES)
    at = rng.uniform(0, period)
    while at < t[-1]:
        since = np.maximum(t - at, 0)
        size = IMPULSE_G * rng.uniform(0.8, 1.2)
        ring = size * np.exp(-since / DECAY_S) * np.cos(2 * np.pi * RING_HZ * since)
        added += np.where(t >= at, ring, 0)
        at += period * rng.normal(1, 0.01)
    return added


def figures(x: np.ndarray) -> tuple[float, float, float]:
    """RMS and crest factor (largest absolute value over RMS) about the mean; kurtosis.

    Kurtosis is the fourth moment over the squared variance: 3 for normal noise.
    """
    centred = x.astype(np.float64) - x.mean(dtype=np.float64)
    variance = np.mean(centred**2)
    rms = np.sqrt(variance)
    return rms, np.abs(centred).max() / rms, np.mean(centred**4) / variance**2


def write(name: str, x: np.ndarray) -> None:
    """Writes one series and prints its figures."""
    folder = Path(__file__).resolve().parent
    text = "".join(f"{value:.6f}\n" for value in x)
    (folder / f"{name}.csv").write_text("x\n" + text)
    stored = np.loadtxt(folder / f"{name}.csv", skiprows=1, dtype=np.float32)
    rms, crest, kurtosis = figures(stored)
    print(f"{name}: RMS {rms:.4f} g, crest factor {crest:.3f}, kurtosis {kurtosis:.3f}")
    windows = [figures(part)[2] for part in stored.reshape(-1, WINDOW)]
    print(f"  kurtosis by window of {WINDOW}: {min(windows):.3f} to {max(windows):.3f}")


def main() -> None:
    """Makes both series from one seed."""
    rng = np.random.default_rng(SEED)
    write("healthy", running(rng))
    write("faulty", running(rng) + impacts(rng))


if __name__ == "__main__":
    main()
