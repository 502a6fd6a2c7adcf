"""The compiled loops: numba, vectorised, over a range of rows each.

All arithmetic is in base 2: with ``u = (z - max(z)) log2(e) / tau``, ``S = sum 2^u`` and ``T = sum u 2^u``,

    H = ln S - ln 2 * T / S.

What makes them fast: an own ``2^u`` of a dozen operations that the compiler can vectorise (the library's exp is a call
per element), and sums over blocks of `BLOCK` columns in float32, added up in float64, as a row may have 50,000 classes.
Where a row has few classes, or its sums are many, `TOGETHER` rows are taken at a time, each in a lane of the vectors:
sums across the lanes of one row, remainders of loops and single divisions would take longer than the classes.

Rows must be finite: the code is compiled to assume that there is no NaN. All compiled code stays in this one file,
because numba's cache on disk notices changes of a kernel's own file only; numbers of other modules come as arguments.
"""

# Numba infers the types of all that follows; annotations would be decoration that nothing checks.
# mypy: ignore-errors

import math
import operator
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

BLOCK = 1024
"""Columns summed in float32 before they join a float64 sum; three such buffers fit the L1 cache."""
LANES = 32
"""Buffers are padded to a multiple of this, so that vector loops have no remainder."""
RUN = 128
"""Columns that share one maximum; the largest logit is then sought in the winning run only."""
TOGETHER = 16
"""Rows taken side by side: as many as a 512-bit vector has lanes; narrower vectors are taken several at a time."""
FEW_CLASSES = 512
"""Up to so many classes rows are taken side by side: with more they leave the cache between two passes over them."""
PART = 64
"""Columns of rows side by side that are summed before they join a larger sum, so that rounding does not add up."""
COLUMNS = 256
"""Columns of rows side by side that are tabulated at a time."""
LONG_ROW = 4096
"""From so many classes on a table is made row by row, each lane with a part of the row: rows side by side leave the
cache between two passes over them, and only a row by itself can be left with the classes that still count."""
STEPS = 4
"""Ratios taken per pass over a buffer: loads and stores are shared by that many."""
RESTART = 64
"""Multiplications after which a recurrence starts again from an exact power; the largest drift found is 2.7e-5 nats, at
49,152 classes."""

TERMS = 13
"""Power sums of a series; those of the moments end at the powers 10 to 12."""
CHUNK = 32
"""Columns of rows side by side whose `TERMS` powers fit the L1 cache."""

LOG2_E = math.log2(math.e)
LN_2 = math.log(2.0)
_MIN_EXPONENT = np.float32(-126.0)
# Exponents of a divergence end here: an infinite one times a weight of 0 would be NaN.
_FAR = np.float32(1e30)
_LARGEST = 3e38
_HALF = np.float32(0.5)
_ZERO = np.float32(0.0)
_FLUSHED = np.float32(1e-30)
# Its square is a normal number still.
_ROOT = np.float32(2.0**-63)
# Minimax in relative error for 2^f on [-0.5, 0.5], with the first coefficient held at 1 so that 2^0 is exactly 1: 9e-8.
_C0 = np.float32(1.0)
_C1 = np.float32(0.6931469775978846)
_C2 = np.float32(0.24022242083388012)
_C3 = np.float32(0.05550733744273165)
_C4 = np.float32(0.009671512768486412)
_C5 = np.float32(0.0013264727266305942)
_SQRT_HALF_BITS = int(np.float32(math.sqrt(0.5)).view(np.int32))
_HALF_TO_SINGLE = 2.0**112
# The exponent of a class that is not there: from a ratio of 0.42 on its weight is 2^-126, which times its twelfth power
# is 1e-10.
_NOWHERE = np.float32(-300.0)


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


class Lanes(types.Type):
    """One float32 of each of `TOGETHER` rows; with operators, and numbers on either side of them."""

    def __init__(self):
        super().__init__("Lanes")


_lanes = Lanes()
_SINGLE, _WORD = ir.FloatType(), ir.IntType(32)
_SINGLES, _WORDS = ir.VectorType(_SINGLE, TOGETHER), ir.VectorType(_WORD, TOGETHER)
_DOUBLES = ir.VectorType(ir.DoubleType(), TOGETHER)
# Lanes are vectors already: sums stay in the order in which they are written, which keeps moments from cancelling.
_FAST = tuple(sorted(_OPTIONS["fastmath"] - {"reassoc"}))
# Without these flags on a maximum LLVM keeps the loop scalar.
_ORDERED = ("nnan", "nsz")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, frontend_type):
        super().__init__(manager, frontend_type, _SINGLES)


def _kind(*given):
    """What an operation on lanes and numbers gives."""
    return _lanes if any(isinstance(each, Lanes) for each in given) else types.float32


def _operands(builder, signature, arguments):
    """The arguments as LLVM's values of one type: numbers go into every lane."""
    values = [
        builder.fptrunc(value, _SINGLE) if given == types.float64 else value
        for value, given in zip(arguments, signature.args, strict=True)
    ]
    if signature.return_type != _lanes:
        return values
    return [value if value.type == _SINGLES else _in_every_lane(builder, value) for value in values]


def _in_every_lane(builder, value):
    nothing = ir.Constant(_SINGLES, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(_WORDS, [0] * TOGETHER))


def _words_of(value):
    """The type of as many 32-bit whole numbers, and how to write a constant of it."""
    several = isinstance(value.type, ir.VectorType)
    kind = _WORDS if several else _WORD
    return kind, lambda number: ir.Constant(kind, [number] * TOGETHER if several else number)


def _of_llvm(builder, name, values, flags):
    """One of LLVM's own functions, of one number or of lanes."""
    kind = values[0].type
    ending = f"v{TOGETHER}f32" if isinstance(kind, ir.VectorType) else "f32"
    function_type = ir.FunctionType(kind, [kind] * len(values))
    function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}.{ending}")
    return builder.call(function, values, fastmath=flags)


def _define_operator(symbol, instruction):
    @intrinsic
    def compute(typing_context, first, second):
        def generate(context, builder, signature, arguments):
            values = _operands(builder, signature, arguments)
            return getattr(builder, instruction)(*values, flags=_FAST)

        return _lanes(first, second), generate

    @overload(symbol)
    def choose(first, second):
        if isinstance(first, Lanes) or isinstance(second, Lanes):
            return lambda first, second: compute(first, second)
        return None


for _symbol, _instruction in {
    operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv",
}.items():  # fmt: skip
    _define_operator(_symbol, _instruction)


@intrinsic
def _truncated(typing_context, value):
    """The whole number toward zero, as float32; beyond 32 bits it is undefined."""

    def generate(context, builder, signature, arguments):
        words, _ = _words_of(arguments[0])
        return builder.sitofp(builder.fptosi(arguments[0], words), arguments[0].type)

    return _kind(value)(value), generate


@intrinsic
def _times_power_of_two(typing_context, value, exponent):
    """``value * 2**exponent`` by adding to the exponent field; exact while the result is a normal number."""

    def generate(context, builder, signature, arguments):
        number, exponent = arguments
        words, constant = _words_of(number)
        shifted = builder.shl(builder.fptosi(exponent, words), constant(23))
        return builder.bitcast(builder.add(builder.bitcast(number, words), shifted), number.type)

    return _kind(value)(value, exponent), generate


@intrinsic
def _nearest_exponent(typing_context, value):
    """The whole number nearest to the binary logarithm of a positive normal number, up to rounding of the half."""

    def generate(context, builder, signature, arguments):
        words, constant = _words_of(arguments[0])
        bits = builder.sub(builder.bitcast(arguments[0], words), constant(_SQRT_HALF_BITS))
        return builder.sitofp(builder.ashr(bits, constant(23)), arguments[0].type)

    return _kind(value)(value), generate


def _build_single_from_half(builder, bits):
    """The float32 value of float16 bits, in integer operations that every vector unit has.

    Moving exponent and mantissa into place leaves a number too small by 2**112, subnormals included.
    """
    words, constant = _words_of(bits)
    singles = _SINGLES if words == _WORDS else _SINGLE
    scale = ir.Constant(singles, [_HALF_TO_SINGLE] * TOGETHER if words == _WORDS else _HALF_TO_SINGLE)
    wide = builder.zext(bits, words)
    size = builder.shl(builder.and_(wide, constant(0x7FFF)), constant(13))
    scaled = builder.fmul(builder.bitcast(size, singles), scale)
    sign = builder.shl(builder.and_(wide, constant(0x8000)), constant(16))
    return builder.bitcast(builder.or_(builder.bitcast(scaled, words), sign), singles)


@intrinsic
def _single_from_half(typing_context, bits):
    """The float32 value of float16 bits."""

    def generate(context, builder, signature, arguments):
        return _build_single_from_half(builder, arguments[0])

    return types.float32(types.uint16), generate


@intrinsic
def _larger(typing_context, first, second):
    """Maximum of two numbers, or lane by lane."""

    def generate(context, builder, signature, arguments):
        return _of_llvm(builder, "maxnum", _operands(builder, signature, arguments), _ORDERED)

    return _kind(first, second)(first, second), generate


@intrinsic
def _smaller(typing_context, first, second):
    """Minimum of two numbers, or lane by lane."""

    def generate(context, builder, signature, arguments):
        return _of_llvm(builder, "minnum", _operands(builder, signature, arguments), _ORDERED)

    return _kind(first, second)(first, second), generate


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
    part = u - whole
    power = _C0 + part * (_C1 + part * (_C2 + part * (_C3 + part * (_C4 + part * _C5))))
    return _times_power_of_two(power, whole)


@_inlined
def _log(x):
    """``ln x`` for a positive normal number within 2e-7, by the series of the inverse tanh, which vectorises."""
    exponent = _nearest_exponent(x)
    part = _times_power_of_two(x, _ZERO - exponent)  # in [sqrt(1/2), sqrt(2))
    s = (part - _C0) / (part + _C0)
    square = s * s
    series = _C0 + square * (np.float32(1 / 3) + square * (np.float32(1 / 5) + square * np.float32(1 / 7)))
    return exponent * np.float32(LN_2) + np.float32(2.0) * s * series


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
            buffer[j] = _single_from_half(row[j])
        return buffer

    return convert


@_inlined
def _prefetch_row(rows, row):
    if row < rows.shape[0]:
        for column in range(0, rows.shape[1], 64 // rows.itemsize):
            _prefetch(rows, row, column)


@_inlined
def _aligned(size):
    """A buffer that begins with a cache line: a vector across two of them is loaded twice."""
    whole = np.empty(size + 16, np.float32)
    first = (-whole.ctypes.data % 64) // 4
    return whole[first : first + size]


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


# --- Rows side by side -----------------------------------------------------------------------------------------------
#
# A buffer holds `TOGETHER` numbers, one of each row, at place 0, then those at place 1, and so on.


def _vector_at(context, builder, kind, array, index, vector):
    """A pointer to a vector that starts at an element of a flat array."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _is_double(kind):
    return kind.dtype == types.float64


@intrinsic
def _lanes_from(typing_context, buffer, first):
    """The lanes that start at an element of a buffer in float32 or float64."""

    def generate(context, builder, signature, arguments):
        double = _is_double(signature.args[0])
        vector = _DOUBLES if double else _SINGLES
        place = _vector_at(context, builder, signature.args[0], arguments[0], arguments[1], vector)
        values = builder.load(place, align=8 if double else 4)
        return builder.fptrunc(values, _SINGLES) if double else values

    return _lanes(buffer, types.intp), generate


@intrinsic
def _lanes_into(typing_context, buffer, first, value):
    """Store lanes from an element of a buffer in float32 or float64 on."""

    def generate(context, builder, signature, arguments):
        double = _is_double(signature.args[0])
        vector = _DOUBLES if double else _SINGLES
        place = _vector_at(context, builder, signature.args[0], arguments[0], arguments[1], vector)
        values = builder.fpext(arguments[2], _DOUBLES) if double else arguments[2]
        builder.store(values, place, align=8 if double else 4)
        return context.get_dummy_value()

    return types.void(buffer, types.intp, _lanes), generate


@intrinsic
def _lanes_onto(typing_context, buffer, first, value):
    """Add lanes to those that start at an element of a buffer in float64."""

    def generate(context, builder, signature, arguments):
        place = _vector_at(context, builder, signature.args[0], arguments[0], arguments[1], _DOUBLES)
        added = builder.fadd(builder.load(place, align=8), builder.fpext(arguments[2], _DOUBLES))
        builder.store(added, place, align=8)
        return context.get_dummy_value()

    return types.void(buffer, types.intp, _lanes), generate


def _zipped(builder, first, second):
    """Two vectors as one pair after another, in two vectors again."""
    orders = (range(TOGETHER // 2), range(TOGETHER // 2, TOGETHER))
    masks = ([each for k in order for each in (k, k + TOGETHER)] for order in orders)
    return [builder.shuffle_vector(first, second, ir.Constant(_WORDS, mask)) for mask in masks]


@intrinsic
def _pairs_into(typing_context, array, first, one, other):
    """Store the pairs of two numbers of each lane from an element on."""

    def generate(context, builder, signature, arguments):
        for k, half in enumerate(_zipped(builder, arguments[2], arguments[3])):
            index = builder.add(arguments[1], ir.Constant(arguments[1].type, k * TOGETHER))
            builder.store(half, _vector_at(context, builder, signature.args[0], arguments[0], index, _SINGLES), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes, _lanes), generate


@intrinsic
def _columns_into(typing_context, rows, first, last, column, buffer, place):
    """`TOGETHER` columns of as many rows, in float32, into a buffer; after the last row comes the last again.

    Zipping the first half of the vectors with the second, four times over, transposes a square of 16.
    """

    def generate(context, builder, signature, arguments):
        given, first, last, column, buffer, place = arguments
        array = context.make_array(signature.args[0])(context, builder, given)
        row_stride, stride = cgutils.unpack_tuple(builder, array.strides)
        base = builder.bitcast(array.data, ir.IntType(8).as_pointer())
        from_half = signature.args[0].dtype == types.uint16
        stored = ir.VectorType(ir.IntType(16), TOGETHER) if from_half else _SINGLES
        square = []
        for n in range(TOGETHER):
            row = builder.add(first, ir.Constant(first.type, n))
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            offset = builder.add(builder.mul(row, row_stride), builder.mul(column, stride))
            values = builder.load(
                builder.bitcast(builder.gep(base, [offset]), stored.as_pointer()), align=2 if from_half else 4
            )
            square.append(_build_single_from_half(builder, values) if from_half else values)
        for _ in range(TOGETHER.bit_length() - 1):
            halves = zip(square[: TOGETHER // 2], square[TOGETHER // 2 :], strict=True)
            square = [vector for pair in halves for vector in _zipped(builder, *pair)]
        for j, vector in enumerate(square):
            element = builder.mul(builder.add(place, ir.Constant(place.type, j)), ir.Constant(place.type, TOGETHER))
            builder.store(vector, _vector_at(context, builder, signature.args[4], buffer, element, _SINGLES), align=4)
        return context.get_dummy_value()

    return types.void(rows, types.intp, types.intp, types.intp, buffer, types.intp), generate


@intrinsic
def _where_larger(typing_context, first, second, this, that):
    """Lane by lane this where the first is larger than the second, else that."""

    def generate(context, builder, signature, arguments):
        first, second, this, that = _operands(builder, signature, arguments)
        return builder.select(builder.fcmp_ordered(">", first, second, flags=("nnan",)), this, that)

    return _lanes(first, second, this, that), generate


@intrinsic
def _largest_lane(typing_context, value):
    """The largest of the lanes, as one number."""

    def generate(context, builder, signature, arguments):
        function_type = ir.FunctionType(_SINGLE, [_SINGLES])
        name = f"llvm.vector.reduce.fmax.v{TOGETHER}f32"
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        return builder.call(function, arguments, fastmath=_ORDERED)

    return types.float32(_lanes), generate


@intrinsic
def _square_root(typing_context, value):
    def generate(context, builder, signature, arguments):
        return _of_llvm(builder, "sqrt", arguments, _FAST)

    return _lanes(value), generate


@intrinsic
def _same(typing_context, value):
    """A number in every lane."""

    def generate(context, builder, signature, arguments):
        return _operands(builder, signature, arguments)[0]

    return _lanes(value), generate


@_inlined
def _lanes_at(buffer, place):
    return _lanes_from(buffer, place * TOGETHER)


@_inlined
def _put(buffer, place, value):
    _lanes_into(buffer, place * TOGETHER, value)


@_inlined
def _add_to(buffer, place, value):
    _lanes_onto(buffer, place * TOGETHER, value)


def _number_as_single(value):
    """One stored number in float32."""


@overload(_number_as_single)
def _choose_number_as_single(value):
    if value == types.float32:
        return lambda value: value
    return lambda value: _single_from_half(value)


@_inlined
def _lay_side_by_side(rows, first, last, begin, end, buffer):
    """Columns from begin to end of `TOGETHER` rows; after the last row comes the last again.

    The buffer has room for `TOGETHER` columns at least: fewer are read with numbers of the rows that follow, as far as
    there are any.
    """
    size = end - begin
    if size < TOGETHER:
        if (rows.shape[0] - first - (TOGETHER - 1)) * rows.shape[1] - begin >= TOGETHER:
            _columns_into(rows, first, last, begin, buffer, 0)
            return
        for j in range(size):
            for n in range(TOGETHER):
                stored = rows[np.uintp(min(first + n, last)), np.uintp(begin + j)]
                buffer[np.uintp(j * TOGETHER + n)] = _number_as_single(stored)
        return
    for j in range(0, size - TOGETHER + 1, TOGETHER):
        _columns_into(rows, first, last, begin + j, buffer, j)
    if size % TOGETHER:  # the last columns once more
        _columns_into(rows, first, last, end - TOGETHER, buffer, size - TOGETHER)


@_inlined
def _values_side_by_side(values, first, last, buffer, place):
    """One number of each of `TOGETHER` rows."""
    for n in range(TOGETHER):
        buffer[place * TOGETHER + n] = values[min(first + n, last)]
    return _lanes_at(buffer, place)


@_inlined
def _statistics_side_by_side(x, classes, smallest):
    """As `_row_statistics`, of the rows in a buffer."""
    inverse = np.float32(1.0 / classes)
    peak = _lanes_at(x, 0)
    lowest = peak
    second = _same(np.float32(-_LARGEST))
    top1 = _same(_ZERO)
    total = peak
    for begin in range(1, classes, PART):
        part = _same(_ZERO)
        for j in range(begin, min(begin + PART, classes)):
            value = _lanes_at(x, j)
            second = _larger(second, _smaller(peak, value))
            top1 = _where_larger(value, peak, np.float32(j), top1)
            peak = _larger(peak, value)
            lowest = _smaller(lowest, value)
            part = part + value
        total = total + part

    # Moments about the mean, which has rounded, do not cancel, wherever the row lies.
    pivot = total * inverse
    first_moment = _same(_ZERO)
    second_moment = _same(_ZERO)
    for begin in range(0, classes, PART):
        first_part = _same(_ZERO)
        second_part = _same(_ZERO)
        for j in range(begin, min(begin + PART, classes)):
            shifted = _lanes_at(x, j) - pivot
            first_part = first_part + shifted
            second_part = second_part + shifted * shifted
        first_moment = first_moment + first_part
        second_moment = second_moment + second_part
    offset = first_moment * inverse
    deviation = _square_root(_larger(second_moment * inverse - offset * offset, _ZERO))
    maximum = _where_larger(peak, lowest, (peak - pivot) - offset, _ZERO)
    maximum = _where_larger(np.float32(smallest), maximum, _ZERO, maximum)
    return maximum, peak, top1, peak - second, _where_larger(maximum, _ZERO, deviation, _ZERO)


@_inlined
def _entropy_side_by_side(x, classes, peak, scale, highest):
    """As `_row_entropy`, of the rows in a buffer."""
    total = _same(_ZERO)
    weighted = _same(_ZERO)
    for begin in range(0, classes, PART):
        total_part = _same(_ZERO)
        weighted_part = _same(_ZERO)
        for j in range(begin, min(begin + PART, classes)):
            u = _larger((_lanes_at(x, j) - peak) * scale, _MIN_EXPONENT)
            power = _exp2(u)
            total_part = total_part + power
            weighted_part = weighted_part + power * u
        total = total + total_part
        weighted = weighted + weighted_part
    entropy = _log(total) - np.float32(LN_2) * weighted / total
    return _where_larger(scale, _ZERO, _smaller(_larger(entropy, _ZERO), np.float32(highest)), np.float32(highest))


@_inlined
def _put_statistics(found, results):
    for q in range(5):
        _put(results, q, found[q])


@_inlined
def _hand_out(results, first, end, maximum, peak, top1, gap, std):
    """From a buffer to the rows up to the end."""
    for n in range(min(TOGETHER, end - first)):
        i = first + n
        maximum[i] = results[n]
        peak[i] = results[TOGETHER + n]
        top1[i] = np.int64(results[2 * TOGETHER + n])
        gap[i] = results[3 * TOGETHER + n]
        std[i] = results[4 * TOGETHER + n]


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


@compiled
def few_statistics_kernel(begin, end, logits, smallest, maximum, peak, top1, gap, std):
    """`statistics_kernel` for up to `FEW_CLASSES`, of rows side by side."""
    _with_wide_vectors()
    classes = logits.shape[1]
    x = np.empty(max(classes, TOGETHER) * TOGETHER, np.float32)
    results = np.empty(5 * TOGETHER, np.float32)
    for i in range(begin, end, TOGETHER):
        _lay_side_by_side(logits, i, end - 1, 0, classes, x)
        _put_statistics(_statistics_side_by_side(x, classes, smallest), results)
        _hand_out(results, i, end, maximum, peak, top1, gap, std)


@compiled
def few_first_pass_kernel(begin, end, logits, smallest, tau, rho, floor, maximum, peak, top1, gap, std, entropy):
    """`first_pass_kernel` for up to `FEW_CLASSES`, of rows side by side."""
    _with_wide_vectors()
    classes = logits.shape[1]
    x = np.empty(max(classes, TOGETHER) * TOGETHER, np.float32)
    results = np.empty(6 * TOGETHER, np.float32)
    highest = math.log(classes)
    at_floor = _scale(np.float32(floor)) if floor > 0.0 else np.float32(_LARGEST)
    for i in range(begin, end, TOGETHER):
        _lay_side_by_side(logits, i, end - 1, 0, classes, x)
        found = _statistics_side_by_side(x, classes, smallest)
        if tau > 0.0:
            scale = _same(_scale(tau))
        else:
            at_ratio = np.float32(min(LOG2_E * rho, _LARGEST)) / found[0]
            scale = _where_larger(found[0], _ZERO, _smaller(at_ratio, at_floor), _ZERO)
        _put_statistics(found, results)
        _put(results, 5, _entropy_side_by_side(x, classes, found[1], scale, highest))
        _hand_out(results, i, end, maximum, peak, top1, gap, std)
        for n in range(min(TOGETHER, end - i)):
            entropy[i + n] = results[5 * TOGETHER + n]


@compiled
def few_entropy_kernel(begin, end, logits, peak, tau, entropy):
    """`entropy_kernel` for up to `FEW_CLASSES`, of rows side by side."""
    _with_wide_vectors()
    classes = logits.shape[1]
    x = np.empty(max(classes, TOGETHER) * TOGETHER, np.float32)
    own = np.empty(3 * TOGETHER, np.float32)
    highest = math.log(classes)
    for i in range(begin, end, TOGETHER):
        _lay_side_by_side(logits, i, end - 1, 0, classes, x)
        for n in range(TOGETHER):
            own[TOGETHER + n] = _scale(tau[min(i + n, end - 1)])
        peaks = _values_side_by_side(peak, i, end - 1, own, 0)
        _put(own, 2, _entropy_side_by_side(x, classes, peaks, _lanes_at(own, 1), highest))
        for n in range(min(TOGETHER, end - i)):
            entropy[i + n] = own[2 * TOGETHER + n]


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
    return power if power > _FLUSHED else _ZERO


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
def _powers_side_by_side(x, columns, ratio, power):
    """``2^(ratio x)``; what is too small to count is 0, see `_flushed`."""
    for j in range(columns):
        found = _exp2(_lanes_at(x, j) * ratio)
        _put(power, j, _where_larger(found, _FLUSHED, found, _ZERO))


@_inlined
def _add_power_sums(weights, powers, columns, sums, first):
    """Add ``sum p v^t`` for t from 0 to 12, of the powers from `_powers_of`."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = s9 = s10 = s11 = s12 = _same(_ZERO)
    for j in range(columns):
        p = _lanes_at(weights, j)
        k = j * (TERMS - 1)
        s0 = s0 + p
        s1 = s1 + p * _lanes_at(powers, k)
        s2 = s2 + p * _lanes_at(powers, k + 1)
        s3 = s3 + p * _lanes_at(powers, k + 2)
        s4 = s4 + p * _lanes_at(powers, k + 3)
        s5 = s5 + p * _lanes_at(powers, k + 4)
        s6 = s6 + p * _lanes_at(powers, k + 5)
        s7 = s7 + p * _lanes_at(powers, k + 6)
        s8 = s8 + p * _lanes_at(powers, k + 7)
        s9 = s9 + p * _lanes_at(powers, k + 8)
        s10 = s10 + p * _lanes_at(powers, k + 9)
        s11 = s11 + p * _lanes_at(powers, k + 10)
        s12 = s12 + p * _lanes_at(powers, k + 11)
    _add_to(sums, first, s0)
    _add_to(sums, first + 1, s1)
    _add_to(sums, first + 2, s2)
    _add_to(sums, first + 3, s3)
    _add_to(sums, first + 4, s4)
    _add_to(sums, first + 5, s5)
    _add_to(sums, first + 6, s6)
    _add_to(sums, first + 7, s7)
    _add_to(sums, first + 8, s8)
    _add_to(sums, first + 9, s9)
    _add_to(sums, first + 10, s10)
    _add_to(sums, first + 11, s11)
    _add_to(sums, first + 12, s12)


@_inlined
def _powers_of(x, begin, end, powers):
    """``v^t`` of the distances ``v = ln 2 x``, for t from 1 to 12."""
    for j in range(begin, end):
        v = _larger(_lanes_at(x, j), _NOWHERE) * np.float32(LN_2)
        k = (j - begin) * (TERMS - 1)
        power = v
        _put(powers, k, v)
        for t in range(1, TERMS - 1):
            power = power * v
            _put(powers, k + t, power)


@_inlined
def _add_series(x, columns, first, last, centres, fresh, weights, powers, sums):
    """The power sums of a block about the centres from first to last.

    Powers of the distance go into a buffer that stays in the cache for all centres: with them a term is one operation.
    """
    for begin in range(0, columns, CHUNK):
        size = min(CHUNK, columns - begin)
        _powers_of(x, begin, begin + size, powers)
        for centre in range(first, last):
            own = weights[centre % 3]
            if centre < fresh or centre < first + 3:
                ratio = np.float32(centres[centre])
                for j in range(size):
                    _put(own, j, _exp2(_lanes_at(x, begin + j) * ratio))
            else:
                for j in range(size):
                    root = _larger(_lanes_at(own, j), _ROOT)
                    _put(own, j, root * root)
            _add_power_sums(own, powers, size, sums, centre * TERMS)


@_inlined
def _evaluate_series(ratios, first_series, starts, factors, sums, maxima, highest, curves, origin, apart, partitions):
    """Entropies and slopes at the nodes of each stretch, from ``e^(d v) = sum d^t v^t / t!``."""
    for centre in range(first_series, starts.size - 1):
        first = centre * TERMS
        s0, s1, s2 = _lanes_at(sums, first), _lanes_at(sums, first + 1), _lanes_at(sums, first + 2)
        s3, s4, s5 = _lanes_at(sums, first + 3), _lanes_at(sums, first + 4), _lanes_at(sums, first + 5)
        s6, s7, s8 = _lanes_at(sums, first + 6), _lanes_at(sums, first + 7), _lanes_at(sums, first + 8)
        s9, s10, s11 = _lanes_at(sums, first + 9), _lanes_at(sums, first + 10), _lanes_at(sums, first + 11)
        s12 = _lanes_at(sums, first + 12)
        for k in range(starts[centre], starts[centre + 1]):
            place = np.uintp(k)
            c = factors[place, 10]
            total, mean, square = s10 * c, s11 * c, s12 * c
            c = factors[place, 9]
            total, mean, square = s9 * c + total, s10 * c + mean, s11 * c + square
            c = factors[place, 8]
            total, mean, square = s8 * c + total, s9 * c + mean, s10 * c + square
            c = factors[place, 7]
            total, mean, square = s7 * c + total, s8 * c + mean, s9 * c + square
            c = factors[place, 6]
            total, mean, square = s6 * c + total, s7 * c + mean, s8 * c + square
            c = factors[place, 5]
            total, mean, square = s5 * c + total, s6 * c + mean, s7 * c + square
            c = factors[place, 4]
            total, mean, square = s4 * c + total, s5 * c + mean, s6 * c + square
            c = factors[place, 3]
            total, mean, square = s3 * c + total, s4 * c + mean, s5 * c + square
            c = factors[place, 2]
            total, mean, square = s2 * c + total, s3 * c + mean, s4 * c + square
            c = factors[place, 1]
            total, mean, square = s1 * c + total, s2 * c + mean, s3 * c + square
            total, mean, square = s0 + total, s1 + mean, s2 + square
            entropy, slope, partition = _curve_at(
                np.float32(ratios[place]), total, mean, square, maxima, highest
            )  # fmt: skip
            _pairs_into(curves, origin + apart * k, entropy, slope)
            _put(partitions, k, partition)


@_inlined
def _curve_at(ratio, total, mean, square, maxima, highest):
    """``H``, ``dH/dr`` and ``ln sum e^(r x)`` from ``sum e^(r x)`` and the first two moments there."""
    inverse_total = _C0 / total
    mean = mean * inverse_total
    partition = _log(total)
    entropy = _smaller(_larger(partition - mean * ratio, _ZERO), highest)
    slope = _larger(square * inverse_total - mean * mean, _ZERO) * (-ratio)
    return (
        _where_larger(maxima, _ZERO, entropy, highest),
        _where_larger(maxima, _ZERO, slope, _ZERO),
        _where_larger(maxima, _ZERO, partition, highest),
    )


@_inlined
def _add_three(moments, k, total, mean, square):
    _add_to(moments, 3 * k, total)
    _add_to(moments, 3 * k + 1, mean)
    _add_to(moments, 3 * k + 2, square)


@_inlined
def _add_four_moments(x, power, factor, columns, moments, k, count):
    """Add ``sum p``, ``sum p x`` and ``sum p x^2`` at up to four ratios, and move the powers on by four."""
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = q0 = q1 = q2 = q3 = _same(_ZERO)
    for j in range(columns):
        p = _lanes_at(power, j)
        c = _lanes_at(x, j)
        f = _lanes_at(factor, j)
        s0 = s0 + p
        w = p * c
        t0 = t0 + w
        q0 = q0 + w * c
        p = p * f
        s1 = s1 + p
        w = p * c
        t1 = t1 + w
        q1 = q1 + w * c
        p = p * f
        s2 = s2 + p
        w = p * c
        t2 = t2 + w
        q2 = q2 + w * c
        p = p * f
        s3 = s3 + p
        w = p * c
        t3 = t3 + w
        q3 = q3 + w * c
        p = p * f
        _put(power, j, _where_larger(p, _FLUSHED, p, _ZERO))
    _add_three(moments, k, s0, t0, q0)
    if count > 1:
        _add_three(moments, k + 1, s1, t1, q1)
    if count > 2:
        _add_three(moments, k + 2, s2, t2, q2)
    if count > 3:
        _add_three(moments, k + 3, s3, t3, q3)


@_inlined
def _keep_counting_of_one(x, size, lowest):
    """Move the exponents of one row that still count to the front; returns how many there are."""
    kept = 0
    for place in range(0, size, TOGETHER):
        if _largest_lane(_lanes_from(x, place)) > lowest:
            for j in range(place, min(place + TOGETHER, size)):
                value = x[np.uintp(j)]
                x[np.uintp(kept)] = value
                kept += value > lowest
    return kept


@_inlined
def _sum_lanes(parts, place, whole):
    """Each sum over all lanes, of one row, into the lane of that row beside others."""
    for k in range(parts.size // TOGETHER):
        total = 0.0
        for n in range(TOGETHER):
            total += parts[np.uintp(k * TOGETHER + n)]
        whole[np.uintp(k * TOGETHER + place)] = total


@_inlined
def _smallest_of(row):
    largest = -_number_as_single(row[0])
    for j in range(row.size):
        largest = _larger(largest, -_number_as_single(row[j]))
    return -largest


@_inlined
def _widths_of_long(logits, first, last, peaks, inverse, own):
    """As `_width`, row by row."""
    for n in range(TOGETHER):
        own[TOGETHER + n] = _smallest_of(logits[min(first + n, last)])
    return (peaks - _lanes_at(own, 1)) * inverse * np.float32(LN_2)


@_inlined
def _width(logits, first, last, peak, inverse, x):
    """The distance of the largest from the smallest logit of each row, in units of its m."""
    lowest = peak
    classes = logits.shape[1]
    for begin in range(0, classes, COLUMNS):
        end = min(begin + COLUMNS, classes)
        _lay_side_by_side(logits, first, last, begin, end, x)
        for j in range(end - begin):
            lowest = _smaller(lowest, _lanes_at(x, j))
    return (peak - lowest) * inverse * np.float32(LN_2)


@_inlined
def _add_runs(x, size, ratios, run_starts, last, power, factor, moments):
    """Add the moments of a block at the nodes of the runs before a node, by recurrences."""
    columns = (size + TOGETHER - 1) // TOGETHER
    run = 0
    while run_starts[run] < last:
        start, stop = run_starts[run], run_starts[run + 1]
        _powers_side_by_side(x, columns, np.float32(ratios[start]), power)
        _fill_up(power, size, columns, _ZERO)  # at the ratio 0 even what is nowhere has a weight
        _powers_side_by_side(x, columns, np.float32(ratios[start + 1] - ratios[start]), factor)
        for k in range(start, stop, STEPS):
            _add_four_moments(x, power, factor, columns, moments, k, min(STEPS, stop - k))
        run += 1


@_inlined
def _fill_up(buffer, size, columns, value):
    """Write what stands behind the numbers of one row in the last column."""
    for j in range(size, columns * TOGETHER):
        buffer[np.uintp(j)] = value


@compiled
def table_kernel(
    begin, end, logits, peak, maximum, ratios, run_starts, vanishing,
    series_starts, series_centres, series_factors, fresh_series, sparse_series, widest, table, log_partition,
):  # fmt: skip
    """``H`` and ``dH/dr = -r Var(x)`` at the nodes, of rows side by side; a long row fills all lanes by itself.

    From ``sum p``, ``sum p x`` and ``sum p x^2`` of ``x = (z - max z) / m log2(e)``: by power series about a few
    ratios, and where rows are too wide for the lowest of them by recurrences there.

    The table lies node by node in memory, ``(K, N, 2)``, so that reading all rows at one ratio reads two stripes.
    ``ln sum 2^(r x)`` goes into ``(K, N)`` as well, unless N is 0.
    """
    _with_wide_vectors()
    rows, classes, nodes = table.shape[1], logits.shape[1], ratios.size
    x = _aligned(COLUMNS * TOGETHER)
    # At distances of 4096 bytes the processor takes a store to one for a load of another.
    power, factor = _aligned((COLUMNS + 20) * TOGETHER), _aligned((COLUMNS + 40) * TOGETHER)
    weights = _aligned(CHUNK * TOGETHER), _aligned(CHUNK * TOGETHER), _aligned(CHUNK * TOGETHER)
    powers = _aligned((TERMS - 1) * CHUNK * TOGETHER)
    moments = np.zeros(3 * series_starts[1] * TOGETHER)
    sums = np.zeros(TERMS * series_centres.size * TOGETHER)
    own = np.empty(3 * TOGETHER, np.float32)
    last_curves, partitions = _aligned(2 * nodes * TOGETHER), _aligned(nodes * TOGETHER)
    flat, flat_partition = table.reshape(-1), log_partition.reshape(-1)
    highest = np.float32(math.log(classes))
    long = classes >= LONG_ROW
    at_once = COLUMNS * TOGETHER if long else COLUMNS
    added_sums = np.empty_like(sums) if long else sums
    added_moments = np.empty_like(moments) if long else moments
    for i in range(begin, end, TOGETHER):
        last = end - 1
        count = min(TOGETHER, end - i)
        peaks = _values_side_by_side(peak, i, last, own, 0)
        maxima = _values_side_by_side(maximum, i, last, own, 1)
        inverse = _where_larger(maxima, _ZERO, _smaller(np.float32(LOG2_E) / maxima, np.float32(_LARGEST)), _ZERO)
        if long:
            width = _widths_of_long(logits, i, last, peaks, inverse, own)
        else:
            width = _width(logits, i, last, peaks, inverse, x)
        _put(own, 1, inverse)
        _put(own, 2, width)
        narrow = own[2 * TOGETHER :].max() <= widest
        first_series = 0 if narrow else 1
        for group in range(count if long else 1):
            if long:
                peaks, inverse = _same(own[group]), _same(own[TOGETHER + group])
            added_sums[:] = 0.0
            added_moments[:] = 0.0
            for column in range(0, classes, at_once):
                size = min(at_once, classes - column)
                if long:
                    for j in range(size):
                        x[np.uintp(j)] = _number_as_single(logits[np.uintp(i + group), np.uintp(column + j)])
                    columns = (size + TOGETHER - 1) // TOGETHER
                else:
                    columns = size
                    size = columns * TOGETHER
                    if classes > COLUMNS:  # else they lie there
                        _lay_side_by_side(logits, i, last, column, column + columns, x)
                for j in range(columns):
                    _put(x, j, (_lanes_at(x, j) - peaks) * inverse)
                _fill_up(x, size, columns, _NOWHERE)
                if not narrow:
                    _add_runs(x, size, ratios, run_starts, series_starts[1], power, factor, added_moments)
                if not long:
                    _add_series(
                        x, columns, first_series, series_centres.size,
                        series_centres, fresh_series, weights, powers, added_sums,
                    )  # fmt: skip
                    continue
                for part in range(sparse_series.size - 1):
                    first = max(sparse_series[part], first_series)
                    if part > 0:
                        size = _keep_counting_of_one(x, size, np.float32(-vanishing / ratios[series_starts[first]]))
                        columns = (size + TOGETHER - 1) // TOGETHER
                        _fill_up(x, size, columns, _NOWHERE)
                    _add_series(
                        x, columns, first, sparse_series[part + 1],
                        series_centres, fresh_series, weights, powers, added_sums,
                    )  # fmt: skip
            if long:
                _sum_lanes(added_sums, group, sums)
                _sum_lanes(added_moments, group, moments)
        # Stores into the table go on while the next node is computed.
        curves = flat if count == TOGETHER else last_curves
        origin = 2 * i if count == TOGETHER else 0
        apart = 2 * rows if count == TOGETHER else 2 * TOGETHER
        if not narrow:
            for k in range(series_starts[1]):
                mean = _lanes_at(moments, 3 * k + 1) * np.float32(LN_2)
                square = _lanes_at(moments, 3 * k + 2) * np.float32(LN_2 * LN_2)
                ratio = np.float32(ratios[k])
                entropy, slope, partition = _curve_at(
                    ratio, _lanes_at(moments, 3 * k), mean, square, maxima, highest
                )  # fmt: skip
                _pairs_into(curves, origin + apart * k, entropy, slope)
                _put(partitions, k, partition)
        _evaluate_series(
            ratios, first_series, series_starts, series_factors, sums, maxima, highest,
            curves, origin, apart, partitions,
        )  # fmt: skip
        if count < TOGETHER:
            for k in range(nodes):
                for n in range(2 * count):
                    flat[2 * (k * rows + i) + n] = last_curves[2 * TOGETHER * k + n]
        if log_partition.shape[1]:
            for k in range(nodes):
                for n in range(count):
                    flat_partition[k * rows + i + n] = partitions[k * TOGETHER + n]


@_inlined
def _keep_counting_pairs(x, other, size, lowest):
    """Move the exponents that still count to the front, and the other model's distances along.

    Returns how many there are, and that with padding.
    """
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

    By recurrences like those of `table_kernel`; node by node in memory, ``(K, N, 2)``.
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


# --- Kernels over all samples at once --------------------------------------------------------------------------------


@compiled
def moments_kernel(values):
    """Mean and population variance, in float64."""
    total = 0.0
    for i in range(values.size):
        total += np.float64(values[i])
    mean = total / values.size
    squares = 0.0
    for i in range(values.size):
        from_mean = np.float64(values[i]) - mean
        squares += from_mean * from_mean
    return mean, squares / values.size


@compiled
def correlation_kernel(a, b, mean_a, mean_b):
    """Pearson's correlation of two columns with their means."""
    together = 0.0
    square_a = 0.0
    square_b = 0.0
    for i in range(a.size):
        from_a = a[i] - mean_a
        from_b = b[i] - mean_b
        together += from_a * from_b
        square_a += from_a * from_a
        square_b += from_b * from_b
    return together / math.sqrt(square_a * square_b)


@compiled
def counts_kernel(across, up, chosen, columns_per_unit, rows_per_unit, counts):
    """Add to the counts of a grid; what lies beyond its ends falls into its outermost cells."""
    columns, rows = counts.shape
    for i in range(across.size):
        column = np.int64(min(max(across[i] * columns_per_unit, 0.0), columns - 1.0))
        row = np.int64(min(max(up[i] * rows_per_unit, 0.0), rows - 1.0))
        counts[column, row] += chosen[i]


@compiled
def group_sums_kernel(ranks, values, groups_per_rank, sizes, sums):
    """Sizes and sums of groups of neighbours; equal values have one rank, and so one group."""
    for i in range(ranks.size):
        group = np.int64((ranks[i] - 0.5) * groups_per_rank)
        sizes[group] += 1
        sums[group] += values[i]


@compiled
def keys_kernel(begin, end, bits, keys):
    """Whole numbers in the order of the floats that have these bits, and below each key its place, for `ranks_kernel`.

    Of negative floats larger bits are the smaller number, and -0, which becomes -1, is 0.
    """
    for i in range(begin, end):
        key = np.int64(bits[i]) ^ (np.int64(bits[i]) >> 31 & 0x7FFFFFFF)
        keys[i] = (key + (key == -1)) << 32 | i


@compiled
def ranks_kernel(ordered, ranks):
    """Ranks from 1 on, from sorted whole numbers: above a key, in the lower 32 bits its place; equal keys share one."""
    begin = 0
    while begin < ordered.size:
        end = begin + 1
        while end < ordered.size and ordered[end] >> 32 == ordered[begin] >> 32:
            end += 1
        for i in range(begin, end):
            ranks[ordered[i] & 0xFFFFFFFF] = 0.5 * (begin + end + 1)
        begin = end
