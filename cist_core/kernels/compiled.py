"""The compiled loops: numba, vectorised, over a range of rows each.

All arithmetic is in base 2: with ``u = (z - max(z)) log2(e) / tau``, ``S = sum 2^u`` and ``T = sum u 2^u``,

    H = ln S - ln 2 * T / S.

What makes them fast: an own ``2^u`` of a dozen operations that the compiler can vectorise (the library's exp is a call
per element), and sums over blocks of `BLOCK` columns in float32, added up in float64, as a row may have 50,000 classes.

Rows must be finite: the code is compiled to assume that there is no NaN. All compiled code stays in this one file,
because numba's cache on disk notices changes of a kernel's own file only; numbers of other modules come as arguments.
"""

# Numba infers the types of all that follows; annotations would be decoration that nothing checks.
# mypy: ignore-errors

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

BLOCK = 1024
"""Columns summed in float32 before they join a float64 sum; three such buffers fit the L1 cache."""
LANES = 32
"""Buffers are padded to a multiple of this, so that vector loops have no remainder."""
RUN = 128
"""Columns that share one maximum; the largest logit is then sought in the winning run only."""
LINE_ROWS = 8
"""Rows of a table that share a cache line."""
STEPS = 4
"""Ratios taken per pass over a buffer: loads and stores are shared by that many."""
RESTART = 64
"""Multiplications after which a recurrence starts again from an exact power; the largest drift found is 2.7e-5 nats, at
49,152 classes."""

TERMS = 13
"""Power sums of a series; those of the moments end at the powers 10 to 12."""
STRETCH, CENTRES = 8, 16
"""Nodes of a stretch after the first, and the room for centres: with constants the compiler needs no remainder."""
FROM_MIDDLE = 2
"""So many of the centres, the lowest, have series about the middle of the row; the others about its peak."""
WIDEST = 1.25
"""Exponents up to which a series holds: it is cut within 1e-7 there, and rounding grows by ``e^2.5`` at most."""

LOG2_E = math.log2(math.e)
LN_2 = math.log(2.0)
_MIN_EXPONENT = np.float32(-126.0)
# Exponents of a divergence end here: an infinite one times a weight of 0 would be NaN.
_FAR = np.float32(1e30)
_LARGEST = 3e38
_HALF = np.float32(0.5)
_ZERO = np.float32(0.0)
# Minimax in relative error for 2^f on [-0.5, 0.5], with the first coefficient held at 1 so that 2^0 is exactly 1: 9e-8.
_C0 = np.float32(1.0)
_C1 = np.float32(0.6931469775978846)
_C2 = np.float32(0.24022242083388012)
_C3 = np.float32(0.05550733744273165)
_C4 = np.float32(0.009671512768486412)
_C5 = np.float32(0.0013264727266305942)
_SQRT_HALF_BITS = int(np.float32(math.sqrt(0.5)).view(np.int32))
_HALF_TO_SINGLE = np.float32(2.0**112)


# Infinities stay allowed: a huge difference over a tiny temperature overflows, and is clamped.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"nnan", "nsz", "arcp", "contract", "reassoc"},
}


def _inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A piece of a kernel. A real call costs as much as 50 logits: each slice it takes is counted atomically."""
    return numba.njit(forceinline=True, **_OPTIONS)(function)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use and keep the machine code on disk, so that the next process starts at once."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        return numba.njit(**_OPTIONS)(function)


# --- Building blocks -------------------------------------------------------------------------------------------------


@intrinsic
def _truncated(typing_context, value):
    """float32 to int32 toward zero; numba widens integers to 64 bits, which halves the vector's lanes."""

    def generate(context, builder, signature, arguments):
        return builder.fptosi(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def _times_power_of_two(typing_context, value, exponent):
    """``value * 2**exponent`` by adding to the exponent field; exact while the result is a normal number."""

    def generate(context, builder, signature, arguments):
        word = ir.IntType(32)
        bits = builder.bitcast(arguments[0], word)
        shifted = builder.shl(arguments[1], ir.Constant(word, 23))
        return builder.bitcast(builder.add(bits, shifted), ir.FloatType())

    return types.float32(types.float32, types.int32), generate


@intrinsic
def _nearest_exponent(typing_context, value):
    """The whole number nearest to the binary logarithm of a positive normal number, up to rounding of the half."""

    def generate(context, builder, signature, arguments):
        word = ir.IntType(32)
        bits = builder.bitcast(arguments[0], word)
        return builder.ashr(builder.sub(bits, ir.Constant(word, _SQRT_HALF_BITS)), ir.Constant(word, 23))

    return types.int32(types.float32), generate


@intrinsic
def _single_from_half(typing_context, bits, scale):
    """The float32 value of float16 bits, in integer operations that every vector unit has.

    Moving exponent and mantissa into place leaves a number too small by 2**112, subnormals included.
    """

    def generate(context, builder, signature, arguments):
        word = ir.IntType(32)
        wide = builder.zext(arguments[0], word)
        size = builder.shl(builder.and_(wide, ir.Constant(word, 0x7FFF)), ir.Constant(word, 13))
        scaled = builder.fmul(builder.bitcast(size, ir.FloatType()), arguments[1])
        sign = builder.shl(builder.and_(wide, ir.Constant(word, 0x8000)), ir.Constant(word, 16))
        return builder.bitcast(builder.or_(builder.bitcast(scaled, word), sign), ir.FloatType())

    return types.float32(types.uint16, types.float32), generate


@intrinsic
def _larger(typing_context, first, second):
    """Maximum of two numbers. A comparison in Python lacks the flags without which LLVM keeps the loop scalar."""

    def generate(context, builder, signature, arguments):
        single = ir.FloatType()
        maximum = builder.module.declare_intrinsic("llvm.maxnum", [single], ir.FunctionType(single, [single, single]))
        return builder.call(maximum, arguments, fastmath=("nnan", "nsz"))

    return types.float32(types.float32, types.float32), generate


@_inlined
def _at(row, j):
    """``row[j]`` for ``j >= 0``. A signed index may count from the end, and that choice keeps loops from vectors.

    Slices would do as well, but their references are counted atomically, 50 logits' worth of time each.
    """
    return row[np.uintp(j)]


@_inlined
def _exp2(u):
    """``2^u`` for ``u <= 0`` within 2e-7 of itself; below -126 it stays at 2^-126, which no sum notices."""
    u = _larger(u, _MIN_EXPONENT)
    whole = _truncated(u - _HALF)  # rounds to nearest, as u is not positive
    part = u - np.float32(whole)
    power = _C0 + part * (_C1 + part * (_C2 + part * (_C3 + part * (_C4 + part * _C5))))
    return _times_power_of_two(power, whole)


@_inlined
def _log(x):
    """``ln x`` for a positive normal number within 2e-7, by the series of the inverse tanh, which vectorises."""
    exponent = _nearest_exponent(x)
    part = _times_power_of_two(x, -exponent)  # in [sqrt(1/2), sqrt(2))
    s = (part - _C0) / (part + _C0)
    square = s * s
    series = _C0 + square * (np.float32(1 / 3) + square * (np.float32(1 / 5) + square * np.float32(1 / 7)))
    return np.float32(exponent) * np.float32(LN_2) + np.float32(2.0) * s * series


@intrinsic
def _prefetch(typing_context, rows, row, column):
    """Ask for the cache line of one element; the hardware's own prefetching stops at each 4 KiB page."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        strides = cgutils.unpack_tuple(builder, array.strides)
        byte_pointer = ir.IntType(8).as_pointer()
        base = builder.bitcast(array.data, byte_pointer)
        offset = builder.add(builder.mul(arguments[1], strides[0]), builder.mul(arguments[2], strides[1]))
        place = builder.gep(base, [offset])
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte_pointer, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte_pointer], kind)
        builder.call(function, [place, ir.Constant(word, 0), ir.Constant(word, 2), ir.Constant(word, 1)])
        return context.get_dummy_value()

    return types.void(rows, types.intp, types.intp), generate


@intrinsic
def _with_wide_vectors(typing_context):
    """Let the calling kernel use 512-bit registers where the processor has them.

    LLVM halves them by default, for chips whose clock drops; on those that do not, they are worth a fifth of the time.
    """

    def generate(context, builder, signature, arguments):
        # llvmlite refuses attributes that it does not know; LLVM ignores this one where it does not apply.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


def _as_single(row, buffer):
    """The row in float32: itself, or its float16 bits converted into the buffer."""


@overload(_as_single)
def _choose_as_single(row, buffer):
    if row.dtype == types.float32:
        return lambda row, buffer: row

    def convert(row, buffer):
        # A loop of its own: conversion inside the arithmetic loop is three times slower.
        for j in range(row.size):
            buffer[j] = _single_from_half(row[j], _HALF_TO_SINGLE)
        return buffer

    return convert


@_inlined
def _prefetch_row(rows, row):
    if row < rows.shape[0]:
        for column in range(0, rows.shape[1], 64 // rows.itemsize):
            _prefetch(rows, row, column)


@_inlined
def _buffer_for(logits):
    return np.empty(logits.shape[1], np.float32)


@_inlined
def _run_peaks_for(logits):
    return np.empty((logits.shape[1] + RUN - 1) // RUN, np.float32)


@_inlined
def _scale(tau):
    """``log2(e) / tau``, finite for any positive temperature and 0 for an infinite one."""
    return np.float32(min(LOG2_E / np.float64(tau), _LARGEST))


@_inlined
def _row_maximum(row):
    peak = row[0]
    for j in range(row.size):
        peak = _larger(peak, row[j])
    return peak


@_inlined
def _row_minimum(row):
    largest = -row[0]
    for j in range(row.size):
        largest = _larger(largest, -row[j])
    return -largest


@_inlined
def _entropy_sums(row, begin, end, peak, scale):
    total = _ZERO
    weighted = _ZERO
    for j in range(begin, end):
        u = _larger((_at(row, j) - peak) * scale, _MIN_EXPONENT)
        power = _exp2(u)
        total += power
        weighted += power * u
    return total, weighted


@_inlined
def _row_entropy(row, peak, scale, highest):
    """Entropy of one row, at most ``highest = ln C``."""
    if scale == _ZERO:
        return highest
    total = 0.0
    weighted = 0.0
    for begin in range(0, row.size, BLOCK):
        block_total, block_weighted = _entropy_sums(row, begin, min(begin + BLOCK, row.size), peak, scale)
        total += block_total
        weighted += block_weighted
    return _bounded(math.log(total) - LN_2 * weighted / total, highest)


@_inlined
def _bounded(entropy, highest):
    """Rounding may leave ``[0, ln C]`` by 1e-7."""
    return min(max(entropy, 0.0), highest)


@_inlined
def _row_statistics(row, smallest, run_peaks):
    """Centred maximum (0 if below `smallest`), peak, top1, gap and deviation; fills in the maximum of each run.

    A vectorised loop cannot keep positions cheaply; it keeps the maximum of each short run of columns, and only the
    winning run is searched.
    """
    classes = row.size
    peak = np.float32(-_LARGEST)
    second = np.float32(-_LARGEST)
    winner = 0
    for begin in range(0, classes, RUN):
        run_peak = np.float32(-_LARGEST)
        for j in range(begin, min(begin + RUN, classes)):
            run_peak = _larger(run_peak, _at(row, j))
        run_peaks[np.uintp(begin // RUN)] = run_peak
        if run_peak > peak or begin == 0:
            second = peak
            peak = run_peak
            winner = begin
        else:
            second = _larger(second, run_peak)
    top1 = winner
    while row[top1] != peak and top1 < classes - 1:
        top1 += 1
    for begin, end in ((winner, top1), (top1 + 1, min(winner + RUN, classes))):
        for j in range(begin, end):
            second = _larger(second, _at(row, j))
    if second == peak:
        constant = True
        for j in range(classes):
            if row[j] != peak:
                constant = False
                break
        if constant:
            return 0.0, peak, top1, 0.0, 0.0

    # Moments about a rough mean, that of the first run, do not cancel, wherever the row lies.
    run_sum = _ZERO
    for j in range(min(RUN, classes)):
        run_sum += _at(row, j)
    pivot = np.float32(run_sum / min(RUN, classes))
    first_moment = 0.0
    second_moment = 0.0
    for begin in range(0, classes, BLOCK):
        block_first = _ZERO
        block_second = _ZERO
        for j in range(begin, min(begin + BLOCK, classes)):
            shifted = _at(row, j) - pivot
            block_first += shifted
            block_second += shifted * shifted
        first_moment += block_first
        second_moment += block_second
    offset = first_moment / classes
    maximum = np.float64(peak) - np.float64(pivot) - offset
    if maximum < smallest:
        return 0.0, peak, top1, np.float64(peak) - np.float64(second), 0.0
    deviation = math.sqrt(max(second_moment / classes - offset * offset, 0.0))
    return maximum, peak, top1, np.float64(peak) - np.float64(second), deviation


# --- Kernels over rows [begin, end) ----------------------------------------------------------------------------------


@compiled
def statistics_kernel(begin, end, logits, smallest, maximum, peak, top1, gap, std):
    _with_wide_vectors()
    buffer = _buffer_for(logits)
    run_peaks = _run_peaks_for(logits)
    for i in range(begin, end):
        row = _as_single(logits[i], buffer)
        maximum[i], peak[i], top1[i], gap[i], std[i] = _row_statistics(row, smallest, run_peaks)


@compiled
def first_pass_kernel(begin, end, logits, smallest, tau, rho, floor, maximum, peak, top1, gap, std, entropy):
    """The statistics and, while the row is in cache, the entropy at ``tau``; at ``max(m / rho, floor)`` if tau is 0."""
    _with_wide_vectors()
    buffer = _buffer_for(logits)
    run_peaks = _run_peaks_for(logits)
    highest = math.log(logits.shape[1])
    for i in range(begin, end):
        _prefetch_row(logits, i + 1)
        row = _as_single(logits[i], buffer)
        m, largest, top1[i], gap[i], std[i] = _row_statistics(row, smallest, run_peaks)
        maximum[i] = m
        peak[i] = largest
        if tau > 0.0:
            scale = _scale(tau)
        elif m > 0.0:
            scale = _scale(max(m / rho, floor))
        else:
            scale = _ZERO
        entropy[i] = _row_entropy(row, largest, scale, highest)


@compiled
def entropy_kernel(begin, end, logits, peak, tau, entropy):
    _with_wide_vectors()
    buffer = _buffer_for(logits)
    highest = math.log(logits.shape[1])
    for i in range(begin, end):
        _prefetch_row(logits, i + 1)
        entropy[i] = _row_entropy(_as_single(logits[i], buffer), peak[i], _scale(tau[i]), highest)


@_inlined
def _three_buffers():
    """Room for a block each. At distances of 4096 bytes the processor takes a store to one for a load of another."""
    buffers = np.empty((3, BLOCK + BLOCK // 3), np.float32)
    return buffers[0], buffers[1], buffers[2]


@_inlined
def _fill_exponents(row, begin, end, peak, inverse, x):
    """``x = (z - peak) / m log2(e)`` of one block; returns its length, and that with padding."""
    size = end - begin
    for j in range(size):
        x[np.uintp(j)] = (_at(row, begin + j) - peak) * inverse
    padded = (size + LANES - 1) // LANES * LANES
    for j in range(size, padded):
        x[np.uintp(j)] = _ZERO
    return size, padded


@_inlined
def _fill_powers(x, size, padded, ratio, power):
    """``2^(ratio x)``; the padding gets no weight."""
    for j in range(size):
        power[np.uintp(j)] = _exp2(ratio * _at(x, j))
    for j in range(size, padded):
        power[np.uintp(j)] = _ZERO


@compiled
def sweep_kernel(begin, end, logits, peak, maximum, start, step, sweep):
    """``2^((r + step) x) = 2^(r x) 2^(step x)``: one multiplication for each further ratio."""
    _with_wide_vectors()
    buffer = _buffer_for(logits)
    x, power, factor = _three_buffers()
    count = sweep.shape[1]
    padded_count = (count + STEPS - 1) // STEPS * STEPS
    total = np.empty(padded_count)
    weighted = np.empty(padded_count)
    classes = logits.shape[1]
    highest = math.log(classes)
    for i in range(begin, end):
        if maximum[i] <= _ZERO:
            sweep[i, :] = highest
            continue
        row = _as_single(logits[i], buffer)
        inverse = _scale(maximum[i])
        total[:] = 0.0
        weighted[:] = 0.0
        for column in range(0, classes, BLOCK):
            size, padded = _fill_exponents(row, column, min(column + BLOCK, classes), peak[i], inverse, x)
            _fill_powers(x, size, padded, np.float32(step), factor)
            for restart in range(0, padded_count, RESTART):
                _fill_powers(x, size, padded, np.float32(start + restart * step), power)
                for k in range(restart, min(restart + RESTART, padded_count), STEPS):
                    sums = _four_sums(x, power, factor, padded)
                    for s in range(STEPS):
                        total[k + s] += sums[2 * s]
                        weighted[k + s] += sums[2 * s + 1]
        for k in range(count):
            ratio = start + k * step
            sweep[i, k] = _bounded(math.log(total[k]) - LN_2 * ratio * weighted[k] / total[k], highest)


@_inlined
def _flushed(power):
    """Powers too small to count become 0: left alone they turn subnormal, where arithmetic is 100 times slower."""
    return power if power > np.float32(1e-30) else _ZERO


@_inlined
def _four_sums(x, power, factor, size):
    """``sum p`` and ``sum p x`` at the current and the next three ratios; moves the powers on by four."""
    s0 = s1 = s2 = s3 = _ZERO
    t0 = t1 = t2 = t3 = _ZERO
    for j in range(size):
        p = _at(power, j)
        c = _at(x, j)
        f = _at(factor, j)
        s0 += p
        t0 += p * c
        p = p * f
        s1 += p
        t1 += p * c
        p = p * f
        s2 += p
        t2 += p * c
        p = p * f
        s3 += p
        t3 += p * c
        power[np.uintp(j)] = _flushed(p * f)
    return s0, t0, s1, t1, s2, t2, s3, t3


@_inlined
def _four_moments(x, power, factor, size):
    """``sum p``, ``sum p x`` and ``sum p x^2`` at the current and the next three ratios; moves on by four."""
    s0 = s1 = s2 = s3 = _ZERO
    t0 = t1 = t2 = t3 = _ZERO
    q0 = q1 = q2 = q3 = _ZERO
    for j in range(size):
        p = _at(power, j)
        c = _at(x, j)
        f = _at(factor, j)
        square = c * c
        s0 += p
        t0 += p * c
        q0 += p * square
        p = p * f
        s1 += p
        t1 += p * c
        q1 += p * square
        p = p * f
        s2 += p
        t2 += p * c
        q2 += p * square
        p = p * f
        s3 += p
        t3 += p * c
        q3 += p * square
        power[np.uintp(j)] = _flushed(p * f)
    return s0, t0, q0, s1, t1, q1, s2, t2, q2, s3, t3, q3


@_inlined
def _keep_counting(x, size, lowest):
    """Move the exponents that still count to the front; returns how many there are, and that with padding."""
    kept = 0
    for j in range(size):
        value = _at(x, j)
        x[np.uintp(kept)] = value
        kept += value > lowest
    padded = (kept + LANES - 1) // LANES * LANES
    for j in range(kept, padded):
        x[np.uintp(j)] = _ZERO
    return kept, padded


@_inlined
def _power_sums(v, power, size):
    """``sum p v^t`` for t from 0 to 12."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = s9 = s10 = s11 = s12 = _ZERO
    for j in range(size):
        c = _at(v, j)
        p = _at(power, j)
        s0 += p
        p = p * c
        s1 += p
        p = p * c
        s2 += p
        p = p * c
        s3 += p
        p = p * c
        s4 += p
        p = p * c
        s5 += p
        p = p * c
        s6 += p
        p = p * c
        s7 += p
        p = p * c
        s8 += p
        p = p * c
        s9 += p
        p = p * c
        s10 += p
        p = p * c
        s11 += p
        s12 += p * c
    return s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12


@_inlined
def _add_series(x, v, size, padded, half, series, buffers, sums):
    """The power sums of a block about each centre, ``(13, centres)``, of ``v`` as in `_evaluate_series`."""
    _, centres, spacing, _ = series
    _, power, factor = buffers
    inverse = np.float32(1.0 / half)
    _fill_powers(x, size, padded, np.float32(spacing), factor)
    for centre in range(centres.size):
        if centre == 0 or centre == FROM_MIDDLE:
            shift = _C0 if centre < FROM_MIDDLE else _ZERO
            for j in range(padded):
                v[np.uintp(j)] = _at(x, j) * inverse + shift
        if centre < 2:
            _fill_powers(x, size, padded, np.float32(centres[centre]), power)
        else:
            for j in range(padded):
                power[np.uintp(j)] = _at(power, j) * _at(factor, j)
        found = _power_sums(v, power, padded)
        for t in range(TERMS):
            sums[t, centre] += found[t]


@_inlined
def _series_at(sums, centre, d):
    """The series of the three moments, ``sum s_(t+q) d^t / t!``, by Horner's rule."""
    c = np.uintp(centre)
    total, first, second = sums[TERMS - 3, c], sums[TERMS - 2, c], sums[TERMS - 1, c]
    for t in range(TERMS - 3, 0, -1):
        share = d * (1.0 / t)
        total = sums[t - 1, c] + share * total
        first = sums[t, c] + share * first
        second = sums[t + 1, c] + share * second
    return total, first, second


@_inlined
def _evaluate_series(ratios, half, series, sums, values, moments, log_scale):
    """The moments at the nodes of all stretches, from ``e^(d v) = sum (d v)^t / t!`` with ``d = ln 2 (r - r_0) half``.

    About the first centres ``v = x / half + 1`` lies in [-1, 1]: the moments are those over ``e^-d``, whose logarithm
    goes into ``log_scale``. About the others ``v = x / half`` lies in [-2, 0]: what is far from 0 there has little
    weight, and what has weight does not cancel.
    """
    starts, centres, _, _ = series
    begin, nodes = starts[1], starts[starts.size - 1]
    for k in range(begin):
        j = np.uintp(k)
        moments[0, j], moments[1, j], moments[2, j] = _series_at(sums, 0, LN_2 * half * (ratios[j] - centres[0]))
    for offset in range(STRETCH):  # the same distances from every centre
        d = LN_2 * half * (ratios[begin + offset] - centres[1])
        for centre in range(CENTRES):
            j = np.uintp(centre)
            values[0, j], values[1, j], values[2, j] = _series_at(sums, centre, d)
        for centre in range(1, centres.size):
            k = np.uintp(begin + (centre - 1) * STRETCH + offset)
            if k < nodes:
                for q in range(3):
                    moments[q, k] = values[q, np.uintp(centre)]
    middle = starts[FROM_MIDDLE]
    for k in range(nodes):
        j = np.uintp(k)
        shift = 1.0 if k < middle else 0.0
        centre = centres[0] if k < begin else centres[1]
        total, first, second = moments[0, j], moments[1, j], moments[2, j]
        moments[1, j] = half * (first - shift * total)
        moments[2, j] = half * half * (second - shift * (2.0 * first - total))
        log_scale[j] = shift * LN_2 * half * (centre - ratios[j])


@_inlined
def _sum_moments(
    row, peak, inverse, ratios, run_starts, sparse_run, vanishing, series, buffers, workspace, moments, log_scale
):  # fmt: skip
    """``sum p``, ``sum p x`` and ``sum p x^2`` at every node, ``(3, K)``; from a run on without what has vanished.

    By power series about a few ratios where the row is narrow enough for them, then by recurrences.
    """
    x, power, factor = buffers
    v, sums, values = workspace
    starts, _, _, reach = series
    half = 0.5 * (np.float64(peak) - np.float64(_row_minimum(row))) * np.float64(inverse)
    narrow = LN_2 * half * reach <= WIDEST
    first_run = 0
    if narrow:
        while run_starts[first_run] < starts[starts.size - 1]:
            first_run += 1
        sums[:] = 0.0
    moments[:] = 0.0
    log_scale[:] = 0.0
    for column in range(0, row.size, BLOCK):
        size, padded = _fill_exponents(row, column, min(column + BLOCK, row.size), peak, inverse, x)
        if narrow:
            _add_series(x, v, size, padded, half, series, buffers, sums)
        steps_taken = 1
        for run in range(first_run, run_starts.size - 1):
            first, last = run_starts[run], run_starts[run + 1]
            if run >= sparse_run:
                size, padded = _keep_counting(x, size, np.float32(-vanishing / ratios[first]))
                if size == 0:
                    break
            # A run of whole groups of steps leaves the powers at the start of the next.
            if steps_taken % STEPS or run >= sparse_run:
                _fill_powers(x, size, padded, np.float32(ratios[first]), power)
            _fill_powers(x, size, padded, np.float32(ratios[first + 1] - ratios[first]), factor)
            steps_taken = last - first
            for k in range(first, last, STEPS):
                found = _four_moments(x, power, factor, padded)
                for s in range(min(STEPS, last - k)):
                    moments[0, k + s] += found[3 * s]
                    moments[1, k + s] += found[3 * s + 1]
                    moments[2, k + s] += found[3 * s + 2]
    if narrow:
        _evaluate_series(ratios, half, series, sums, values, moments, log_scale)


@_inlined
def _fill_curve(moments, log_scale, ratios, highest, entropy, slope, log_partition):
    """``H``, ``dH/dr`` and ``ln Z`` at every node."""
    for k in range(ratios.size):
        j = np.uintp(k)
        inverse = 1.0 / moments[0, j]
        mean = LN_2 * moments[1, j] * inverse
        variance = max(LN_2 * LN_2 * moments[2, j] * inverse - mean * mean, 0.0)
        log_total = _log(np.float32(moments[0, j])) + log_scale[j]
        entropy[j] = _bounded(log_total - ratios[j] * mean, highest)
        slope[j] = -ratios[j] * variance
        log_partition[j] = log_total


@compiled
def table_kernel(
    begin, end, logits, peak, maximum, ratios, run_starts, sparse_run, vanishing,
    series_starts, series_centres, series_spacing, series_reach, table, log_partition,
):  # fmt: skip
    """``H`` and ``dH/dr = -r Var(x)`` at the nodes; see `_sum_moments`.

    The table lies node by node in memory, ``(K, N, 2)``, so that reading all rows at one ratio reads two stripes.
    Rows are collected until they fill cache lines. ``ln sum 2^(r x)`` goes into ``(K, N)`` as well, unless N is 0.
    """
    _with_wide_vectors()
    buffer = _buffer_for(logits)
    buffers = _three_buffers()
    nodes = ratios.size
    moments = np.empty((3, nodes))
    log_scale = np.empty(nodes)
    series = series_starts, series_centres, series_spacing, series_reach
    workspace = (
        np.empty(BLOCK + LANES, np.float32),
        np.empty((TERMS, CENTRES)),
        np.empty((3, CENTRES)),
    )
    collected = np.empty((3, LINE_ROWS, nodes), np.float32)
    highest = math.log(logits.shape[1])
    for i in range(begin, end):
        place = (i - begin) % LINE_ROWS
        entropy, slope, log_total = collected[0, place], collected[1, place], collected[2, place]
        if maximum[i] > _ZERO:
            row = _as_single(logits[i], buffer)
            scale = _scale(maximum[i])
            _sum_moments(
                row, peak[i], scale, ratios, run_starts, sparse_run, vanishing, series, buffers, workspace, moments,
                log_scale,
            )  # fmt: skip
            _fill_curve(moments, log_scale, ratios, highest, entropy, slope, log_total)
        else:
            entropy[:] = highest
            slope[:] = 0.0
            log_total[:] = highest
        if place == LINE_ROWS - 1 or i == end - 1:
            first = i - place
            for k in range(nodes):
                for n in range(first, i + 1):
                    table[k, n, 0] = collected[0, n - first, k]
                    table[k, n, 1] = collected[1, n - first, k]
                if log_partition.shape[1]:
                    for n in range(first, i + 1):
                        log_partition[k, n] = collected[2, n - first, k]


@_inlined
def _keep_counting_pairs(x, other, size, lowest):
    """`_keep_counting` that moves the other model's distances along."""
    kept = 0
    for j in range(size):
        value = _at(x, j)
        x[np.uintp(kept)] = value
        other[np.uintp(kept)] = _at(other, j)
        kept += value > lowest
    padded = (kept + LANES - 1) // LANES * LANES
    for j in range(kept, padded):
        x[np.uintp(j)] = _ZERO
        other[np.uintp(j)] = _ZERO
    return kept, padded


@_inlined
def _four_cross_moments(x, other, power, factor, size):
    """``sum p``, ``sum p x``, ``sum p d`` and ``sum p x d`` at the current and the next ratios; moves on by four."""
    s0 = s1 = s2 = s3 = _ZERO
    t0 = t1 = t2 = t3 = _ZERO
    d0 = d1 = d2 = d3 = _ZERO
    c0 = c1 = c2 = c3 = _ZERO
    for j in range(size):
        p = _at(power, j)
        c = _at(x, j)
        f = _at(factor, j)
        d = _at(other, j)
        both = c * d
        s0 += p
        t0 += p * c
        d0 += p * d
        c0 += p * both
        p = p * f
        s1 += p
        t1 += p * c
        d1 += p * d
        c1 += p * both
        p = p * f
        s2 += p
        t2 += p * c
        d2 += p * d
        c2 += p * both
        p = p * f
        s3 += p
        t3 += p * c
        d3 += p * d
        c3 += p * both
        power[np.uintp(j)] = _flushed(p * f)
    return s0, t0, d0, c0, s1, t1, d1, c1, s2, t2, d2, c2, s3, t3, d3, c3


@compiled
def cross_kernel(
    begin, end, teacher, student, t_peak, t_maximum, s_peak, s_maximum,
    ratios, run_starts, sparse_run, vanishing, table,
):  # fmt: skip
    """``D = sum p d`` of the teacher's ``p = 2^(r x) / S`` and the student's distances ``d = max z - z``, and dD/dr.

    By the same recurrences as `table_kernel`; node by node in memory, ``(K, N, 2)``.
    """
    _with_wide_vectors()
    t_buffer = _buffer_for(teacher)
    s_buffer = _buffer_for(student)
    x, power, factor = _three_buffers()
    other = np.empty(BLOCK + LANES, np.float32)
    nodes = ratios.size
    moments = np.empty((nodes, 4))
    for i in range(begin, end):
        if t_maximum[i] <= _ZERO:
            for k in range(nodes):
                table[k, i, 0] = s_maximum[i]
                table[k, i, 1] = _ZERO
            continue
        t_row = _as_single(teacher[i], t_buffer)
        s_row = _as_single(student[i], s_buffer)
        inverse = _scale(t_maximum[i])
        moments[:] = 0.0
        for column in range(0, t_row.size, BLOCK):
            stop = min(column + BLOCK, t_row.size)
            size, padded = _fill_exponents(t_row, column, stop, t_peak[i], inverse, x)
            for j in range(size):
                other[np.uintp(j)] = s_peak[i] - _at(s_row, column + j)
            for j in range(size, padded):
                other[np.uintp(j)] = _ZERO
            for run in range(run_starts.size - 1):
                first, last = run_starts[run], run_starts[run + 1]
                if run >= sparse_run:
                    size, padded = _keep_counting_pairs(x, other, size, np.float32(-vanishing / ratios[first]))
                    if size == 0:
                        break
                _fill_powers(x, size, padded, np.float32(ratios[first]), power)
                _fill_powers(x, size, padded, np.float32(ratios[first + 1] - ratios[first]), factor)
                for k in range(first, last, STEPS):
                    sums = _four_cross_moments(x, other, power, factor, padded)
                    for s in range(min(STEPS, last - k)):
                        for q in range(4):
                            moments[k + s, q] += sums[4 * s + q]
        for k in range(nodes):
            total = moments[k, 0]
            distance = moments[k, 2] / total
            table[k, i, 0] = distance
            table[k, i, 1] = LN_2 * (moments[k, 3] / total - distance * moments[k, 1] / total)


@_inlined
def _interval(r, ratios, bin_width, bin_nodes):
    """The node below a ratio, the spacing above it and the position between, in [0, 1]."""
    k = bin_nodes[np.int64(r / bin_width)]
    while k + 1 < ratios.size and ratios[k + 1] <= r:
        k += 1
    k = min(k, ratios.size - 2)
    step = ratios[k + 1] - ratios[k]
    return k, step, (r - ratios[k]) / step


@compiled
def read_kernel(begin, end, table, ratio, ratios, bin_width, bin_nodes, entropy):
    """Cubic Hermite interpolation between the two nodes around each ratio."""
    _with_wide_vectors()
    if ratio.size == 1:  # the four weights are the same for all rows, which leaves a loop that vectorises
        k, step, t = _interval(ratio[0], ratios, bin_width, bin_nodes)
        at_high = np.float32(t * t * (3.0 - 2.0 * t))
        at_low = _C0 - at_high
        low_slope = np.float32(step * t * (1.0 - t) * (1.0 - t))
        high_slope = np.float32(step * t * t * (t - 1.0))
        low, high = table[k], table[k + 1]
        for i in range(begin, end):
            j = np.uintp(i)
            value = at_low * low[j, 0] + at_high * high[j, 0] + low_slope * low[j, 1] + high_slope * high[j, 1]
            entropy[j] = _larger(value, _ZERO)
        return
    for i in range(begin, end):
        k, step, t = _interval(ratio[i], ratios, bin_width, bin_nodes)
        h0 = table[k, i, 0]
        rise = table[k + 1, i, 0] - h0
        d0 = table[k, i, 1] * step
        d1 = table[k + 1, i, 1] * step
        entropy[i] = max(h0 + t * (d0 + t * (3.0 * rise - 2.0 * d0 - d1 + t * (d0 + d1 - 2.0 * rise))), 0.0)


@_inlined
def _largest(row, run_peaks, values, columns):
    """The largest logits, in falling order and the first one first on a tie, and their columns.

    The k-th largest maximum of a run is no larger than the k-th largest logit, so runs below it are not looked at.
    """
    count = values.size
    runs = run_peaks.size
    least = np.partition(run_peaks, runs - count)[runs - count] if runs >= count else np.float32(-_LARGEST)
    kept = 0
    for run in range(runs):
        if run_peaks[run] < least:
            continue
        for j in range(run * RUN, min((run + 1) * RUN, row.size)):
            value = _at(row, j)
            if value < least or (kept == count and value <= values[count - 1]):
                continue
            place = min(kept, count - 1)
            while place > 0 and values[place - 1] < value:
                values[place] = values[place - 1]
                columns[place] = columns[place - 1]
                place -= 1
            values[place] = value
            columns[place] = j
            kept = min(kept + 1, count)


@_inlined
def _token_sums(row, begin, end, peak, value):
    """``sum 2^u``, ``sum u 2^u`` at temperature 1, and how many logits lie above a value."""
    total = _ZERO
    weighted = _ZERO
    above = _ZERO
    for j in range(begin, end):
        u = _larger((_at(row, j) - peak) * np.float32(LOG2_E), _MIN_EXPONENT)
        power = _exp2(u)
        total += power
        weighted += power * u
        above += _C0 if _at(row, j) > value else _ZERO
    return total, weighted, above


@compiled
def token_kernel(
    begin, end, logits, smallest, actual,
    maximum, peak, top1, gap, std, top, columns, shifted, log_partition, entropy, rank,
):  # fmt: skip
    """The statistics; the largest logits less the peak; of temperature 1 ``ln sum e^(z - peak)`` and the entropy; of
    the actual class its logit less the peak and its rank."""
    _with_wide_vectors()
    buffer = _buffer_for(logits)
    run_peaks = _run_peaks_for(logits)
    classes = logits.shape[1]
    highest = math.log(classes)
    for i in range(begin, end):
        _prefetch_row(logits, i + 1)
        row = _as_single(logits[i], buffer)
        maximum[i], largest, top1[i], gap[i], std[i] = _row_statistics(row, smallest, run_peaks)
        peak[i] = largest
        _largest(row, run_peaks, top[i], columns[i])
        for k in range(top.shape[1]):
            top[i, k] -= largest
        value = row[actual[i]]
        total = 0.0
        weighted = 0.0
        above = 0.0
        for start in range(0, classes, BLOCK):
            sums = _token_sums(row, start, min(start + BLOCK, classes), largest, value)
            total += sums[0]
            weighted += sums[1]
            above += sums[2]
        log_partition[i] = math.log(total)
        entropy[i] = _bounded(math.log(total) - LN_2 * weighted / total, highest)
        shifted[i] = value - largest
        rank[i] = 1 + np.int64(above)


@compiled
def divergence_kernel(begin, end, teacher, student, tau_teacher, tau_student, divergence):
    """``KL = ln 2 * sum 2^u (u - v) / S_t - ln S_t + ln S_s`` for exponents u of the teacher and v of the student."""
    _with_wide_vectors()
    teacher_buffer = _buffer_for(teacher)
    student_buffer = _buffer_for(student)
    for i in range(begin, end):
        t_row = _as_single(teacher[i], teacher_buffer)
        s_row = _as_single(student[i], student_buffer)
        t_peak = _row_maximum(t_row)
        s_peak = _row_maximum(s_row)
        t_scale = _scale(tau_teacher[i])
        s_scale = _scale(tau_student[i])
        t_total = 0.0
        s_total = 0.0
        weighted = 0.0
        for start in range(0, t_row.size, BLOCK):
            t_sum = _ZERO
            s_sum = _ZERO
            w_sum = _ZERO
            for j in range(start, min(start + BLOCK, t_row.size)):
                u = _larger((_at(t_row, j) - t_peak) * t_scale, -_FAR)
                v = _larger((_at(s_row, j) - s_peak) * s_scale, -_FAR)
                power = _exp2(u)
                t_sum += power
                s_sum += _exp2(v)
                w_sum += power * (u - v)
            t_total += t_sum
            s_total += s_sum
            weighted += w_sum
        divergence[i] = max(LN_2 * weighted / t_total - math.log(t_total) + math.log(s_total), 0.0)
