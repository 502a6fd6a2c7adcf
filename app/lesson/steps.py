"""The ten steps of the lesson: what is said, what is shown, what is asked.

A step draws its words and logits on the left and its picture with the sliders on the right. Its widgets have keys that
begin with ``lesson_``: they are what a link to the step carries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st
from numpy.typing import ArrayLike
from streamlit.delta_generator import DeltaGenerator

from app.catalogue import title_of
from app.lesson import sentence, students
from app.lesson.editor import CLASSES, edit_logits
from app.lesson.layout import current_layout
from app.lesson.live import PICTURES, move_pictures, moving_bars, moving_curve, moving_histogram, moving_positions
from app.lesson.material import Material, Sample, lesson_material, shipped_logits
from app.links import follow, follow_number, page_choice
from app.settings import page_setting
from app.sliders.grid import grid_id
from app.state import Code, View
from app.widgets import plain, show_figure, themed_spec
from cist_core.charts import Figure, histogram_figure
from cist_core.charts.lesson import (
    HEIGHT,
    both_informative,
    both_rules_figure,
    divergence_figure,
    envelope_figure,
    hard_and_soft_figure,
    held_figure,
    row_with_gap,
    scaling_figure,
    sentence_figure,
    students_figure,
    temperature_at,
    temperature_figure,
    tempered_figure,
    token_figure,
    two_temperatures,
)
from cist_core.compare.findings import consistency_gain, rule_sentences
from cist_core.compare.matching import matched_pair
from cist_core.compare.slider_grid import RHO_RANGE
from cist_core.entropy.curves import EntropyCurves
from cist_core.entropy.soft_labels import centred_maximum, divergence_of, entropy_of, soft_labels
from cist_core.errors import CistError
from cist_core.temperature import CIST_FLOOR, Cist, Fixed
from cist_core.temperature.readings import RuleReading, read_rules
from cist_core.wording import three_digits

START_TAU, START_RHO = 4.0, 4.0
_WORD = "·king"  # of the sentence, whose bars are shown first


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        title: what it says, in a line.
        show: draws it: on the left, on the right, from the view if there is one.
        questions: pairs of a question and its answer, folded under the words.
    """

    title: str
    show: Callable[[DeltaGenerator, DeltaGenerator, View | None], None]
    questions: Sequence[tuple[str, str]] = ()


def _hard_and_soft(left: DeltaGenerator, right: DeltaGenerator, view: View | None) -> None:
    material = lesson_material(view)
    choices = {"undecided": material.undecided, "ambiguous": material.ambiguous, "confident": material.confident}
    follow("lesson_sample", list(choices), "sample")
    with right, st.container(gap=None):
        chosen = st.segmented_control(
            "Sample", list(choices), default="undecided", required=True, **page_setting("lesson_sample", keep=False)
        )
        st.space("xsmall")  # as high as a slider, so that the picture keeps its place
    sample = choices[str(chosen)]
    entropy = _entropy(sample.logits, 1.0)
    with left:
        st.markdown(
            "The **hard label** of this sample names one class and is silent about all others. The teacher gives "
            "*every* class a probability: what the sample resembles, and how sure it is. This **soft label** is what "
            "a student can learn from."
        )
        st.latex(r"p_k = \frac{e^{z_k}}{\sum_j e^{z_j}}")
        st.latex(r"H = -\sum_k p_k \ln p_k")
        _show_samples(material, {str(chosen).capitalize(): sample})
    with right:
        _pictures(hard_and_soft_figure(sample.logits, material.names, sample.label))
        _numbers(
            ("Hard label", "0 nats", "Its entropy: nothing is left open"),
            ("Soft label", f"{three_digits(entropy)} nats", "Entropy of the soft label at τ = 1"),
            ("Normalised", three_digits(entropy / math.log(len(sample.logits))), "Entropy over ln C"),
        )


def _temperature(left: DeltaGenerator, right: DeltaGenerator, view: View | None) -> None:
    with left:
        st.markdown(
            "Divide the logits by a **temperature** τ before the softmax. Near 0 only the top class is left, at a "
            "large τ all classes are equal. What the student can learn, the *dark knowledge*, lies in between: find it."
        )
        st.latex(r"p_k = \frac{e^{z_k / \tau}}{\sum_j e^{z_j / \tau}}")
        logits = edit_logits(st.container())
    with right:
        tau = _tau_slider(st.container())
        _pictures(tempered_figure(logits, CLASSES, tau), temperature_figure(logits, tau))
        move_pictures({"tau": tau}, moving_bars("fixed", logits), moving_curve("temperature", logits, "now"))
        _row_numbers(logits, tau)


def _two_samples(left: DeltaGenerator, right: DeltaGenerator, view: View | None) -> None:
    material = lesson_material(view)
    with left:
        st.markdown(
            "Two real samples, softened by **the same τ**. The teacher is sure of the first, so its logits are large; "
            "it wavers over the second, so they are small. Move τ and compare how much the two labels say."
        )
        st.markdown(both_informative(material.confident.logits, material.ambiguous.logits))
        st.latex(r"p = \mathrm{softmax}(z / \tau)")
        _show_samples(material, material.pair)
    with right:
        tau = _tau_slider(st.container())
        _pictures(
            *(tempered_figure(sample.logits, material.names, tau, who=who) for who, sample in material.pair.items())
        )
        move_pictures({"tau": tau}, *(moving_bars("fixed", sample.logits) for sample in material.pair.values()))
        _pair_numbers(material, tau, tau)


def _ratio(left: DeltaGenerator, right: DeltaGenerator, view: View | None) -> None:
    with left:
        st.markdown(
            "What decides how sharp a soft label is? Not τ alone, but the **ratio** of the maximum centred logit to "
            "it. Multiply all logits by one number: the order of the classes stays, yet at the same τ the soft "
            "label changes. Hold the ratio, and it stays what it was."
        )
        st.latex(r"m = \max_k \, (z_k - \bar z) \qquad r = m / \tau")
        logits = edit_logits(st.container())
    with right:
        first, second = st.columns(2, gap="medium")
        scale = _slider(first, "Scale all logits by", 0.5, 5.0, 3.0, 0.5, "lesson_scale")
        tau = _tau_slider(second)
        # The ratio that this temperature gives the row as it is: both sides start from the same soft label.
        maximum = float(centred_maximum(logits))
        ratio = max(round(maximum / tau, 3), 0.001)
        _pictures(
            scaling_figure(logits, CLASSES, scale, Fixed(tau)), scaling_figure(logits, CLASSES, scale, Cist(ratio))
        )
        move_pictures({"tau": tau, "scale": scale}, moving_bars("scaled", logits), moving_bars("held", logits))
        _numbers(
            ("Ratio at τ", _change(ratio, scale) if maximum else "0", "m / τ, before and after"),
            ("Ratio held", three_digits(ratio) if maximum else "0", "τ grows with the logits"),
            ("Its τ", _change(tau, scale) if maximum else "any", "The temperature that holds the ratio"),
        )


def _cist(left: DeltaGenerator, right: DeltaGenerator, view: View | None) -> None:
    material = lesson_material(view)
    with left:
        st.markdown(
            "**CIST** chooses one ratio ρ for all and gives every sample the temperature that has it. The confident "
            "sample gets a high one, the ambiguous one a low one: both soft labels say about as much. Amber is the "
            "fixed τ of before."
        )
        st.caption("This is the pure ratio rule, a floor of 0; what a floor under τᵢ is good for comes in step 7.")
        st.latex(r"\tau_i = \frac{m_i}{\rho}")
        _show_samples(material, material.pair)
    with right:
        first, second = st.columns(2, gap="medium")
        rho, tau = _rho_slider(first), _tau_slider(second)
        _pictures(
            *(
                both_rules_figure(sample.logits, material.names, tau=tau, rho=rho, who=who)
                for who, sample in material.pair.items()
            )
        )
        move_pictures(
            {"tau": tau, "rho": rho},
            *(moving_bars("both", sample.logits, rules=2) for sample in material.pair.values()),
        )
        _pair_numbers(material, *(float(temperature_at(sample.logits, rho)) for sample in material.pair.values()))


def _limits(left: DeltaGenerator, right: DeltaGenerator, view: View | None) -> None:
    with left:
        st.markdown(
            "The ratio fixes how far the top class stands out, not how the others share the rest. Two samples with "
            "the same ratio can still differ: at a large ratio a tie at the top keeps the entropy high, while equal "
            "others let it fall almost to 0. Drag the gap to the second place."
        )
        st.latex(r"H_{\min}(r) \;\le\; H \;\le\; H_{\max}(r)")
        follow_number("lesson_gap", 0, 100, "gap")
        follow("lesson_seconds", ["1", "2", "3", "4"], "number of classes in the second place")
        gap = st.slider(
            "Gap to the second class, % of the largest possible", 0, 100, 20, 5,
            **page_setting("lesson_gap", keep=False),
        )  # fmt: skip
        seconds = st.segmented_control(
            "Classes in the second place", ["1", "2", "3", "4"], default="1", required=True,
            **page_setting("lesson_seconds", keep=False),
        )  # fmt: skip
    with right:
        rho = _rho_slider(st.container())
        row = row_with_gap(rho, len(CLASSES), gap / 100, int(seconds))
        _pictures(
            envelope_figure(len(CLASSES), ratio=rho, gap_share=gap / 100, seconds=int(seconds)),
            held_figure(row, CLASSES, rho),
        )
        move_pictures(
            {"rho": rho, "gap": gap},
            moving_curve("envelope", row, "row", "now", seconds=int(seconds)),
            moving_bars("gap", row, seconds=int(seconds)),
        )
        _row_numbers(row, 1.0)


def _two_scales(left: DeltaGenerator, right: DeltaGenerator, view: View | None) -> None:
    with left:
        st.markdown(
            "A small student orders and spaces the classes as its teacher does, on a smaller scale. Under **one τ** "
            "the loss still sees a difference, and asks the student to copy the scale. With **its own τ** for each, "
            "there is nothing left to ask for. Dashed: the student."
        )
        st.latex(r"\mathrm{KL}(p^t \| p^s) = \sum_k p^t_k \ln \frac{p^t_k}{p^s_k}")
        st.markdown(
            "Then nothing holds the student's scale either: in training it can shrink to almost nothing, or grow "
            "without end. That is why τ has a **floor**, 1 by default: a student at the floor can match its teacher "
            "only by growing. Raise the floor, and lower the scale."
        )
        st.latex(r"\tau_i = \max\left(\frac{m_i}{\rho},\ \text{floor}\right)")
        logits = np.array(edit_logits(st.container()))
    with right:
        first, second, third = st.columns(3, gap="medium")
        scale = _slider(first, "Scale of the student", 0.1, 3.0, 0.3, 0.1, "lesson_student")
        tau = _tau_slider(second)
        floor = _slider(third, "Floor of τ", 0.0, 3.0, 0.0, 0.25, "lesson_floor")
        one, own = two_temperatures(scale, tau, floor)
        teacher = soft_labels(logits, one)
        apart = [float(divergence_of(teacher, soft_labels(scale * logits, each))) for each in (one, own)]
        _pictures(students_figure(logits, CLASSES, scale, tau, floor), divergence_figure(logits, scale, tau, floor))
        move_pictures(
            {"student": scale, "tau": tau, "floor": floor},
            moving_bars("students", logits),
            moving_curve("divergence", logits, "curves", "now"),
        )
        _numbers(
            ("Apart, one τ", f"{three_digits(apart[0])} nats", "Divergence of the student from the teacher"),
            ("Apart, own τ", f"{three_digits(round(apart[1], 9))} nats", "The same, each at its own temperature"),
            (
                "Student's own τ",
                three_digits(float(own)) if np.ptp(logits) else "any",
                "Its maximum over the ratio of the teacher, or the floor if that is larger",
            ),
        )


def _whole_set(left: DeltaGenerator, right: DeltaGenerator, view: View | None) -> None:
    logit_set, curves = shipped_logits() if view is None else (view.source.logit_set, view.source.curves)
    with right:
        tau = _tau_slider(st.container())
        pair = _matched(curves, tau, CIST_FLOOR if view is None else view.floor)
        figure = histogram_figure(pair, height=HEIGHT)
        _pictures(figure, code=None if view is None else view.source.code(pair))
        if view is not None:
            move_pictures({"tau": tau}, moving_histogram(figure, grid_id(view.source, view.floor)))
        fixed, cist = (reading.profile for reading in pair)
        gain = consistency_gain(fixed, cist)
        _numbers(
            ("Spread, fixed τ", f"{three_digits(fixed.std)} nats", "Standard deviation of the entropy over samples"),
            ("Spread, CIST", f"{three_digits(cist.std)} nats", "Standard deviation of the entropy over samples"),
            ("Consistency gain", "none" if gain is None else f"{three_digits(gain)} ×", "At the same mean entropy"),
        )
    with left:
        st.markdown(
            f"Now all {logit_set.num_samples:,} samples, one entropy each. Amber on the left are the spikes, amber on "
            "the right the mush: the two samples of step 3, many times over. Under CIST they share a ratio, but for "
            "those at the floor of step 7; the width that is left is the shape of the rows, as in step 6."
        )
        st.latex(r"\text{spread} = \mathrm{std}_i\, H_i")
        st.latex(r"\text{gain} = \text{spread}_\tau \,/\, \text{spread}_\rho")
        _show_source(view)
        st.caption(plain(" ".join(f"{sentence}." for sentence in rule_sentences(pair))))


def _matched(curves: EntropyCurves, tau: float, floor: float) -> list[RuleReading]:
    """A fixed temperature, and CIST at the ρ with the same mean entropy, or at the sharpest where none has it."""
    try:
        rho = matched_pair(curves, tau=tau, floor=floor).rho
    except CistError:
        rho = RHO_RANGE[1]
    return read_rules([Fixed(tau), Cist(round(min(max(rho, RHO_RANGE[0]), RHO_RANGE[1]), 2), floor)], curves)


def _two_students(left: DeltaGenerator, right: DeltaGenerator, view: View | None) -> None:
    with left:
        st.markdown(
            "Two students learn from **100 digits** and the same teacher: one by KD at one temperature, one by CIST. "
            "They start from the same weights. Each bar is a probability of a digit 0 to 9, underlined the right one; "
            "press Play and watch the soft labels sharpen, epoch by epoch, on test images that neither has seen."
        )
        st.latex(r"H = -\sum_k p_k \ln p_k \quad (\tau = 1)")
        st.markdown(plain(students.what_it_shows()))
        st.caption(
            "Recorded from the preset demo, all 40 epochs. At τ = 1 the predictions under CIST stay softer here: above "
            "the floor its loss leaves the student's scale free, as step 7 has it."
        )
    with right:
        students.play()
        _numbers(*students.numbers())


def _sentence(left: DeltaGenerator, right: DeltaGenerator, view: View | None) -> None:
    read = sentence.recorded()
    least, most = (float(end) for end in np.quantile(read.curves.statistics.maximum, (0, 1)))
    titles = {str(number + 1): f"{number + 1}. {word}" for number, word in enumerate(read.words)}
    with left:
        st.markdown(
            "A language model says at every token which one comes next: a soft label over "
            f"{read.predictions.num_classes:,} classes. At some places it is sure, at others a hundred words would do: "
            "under one τ the first are spikes still while the others are mush. CIST gives every token its own τ."
        )
        st.markdown(f"> {plain(read.text)}")
        chosen = page_choice(
            st.selectbox, "Token", titles, key="lesson_token", what="token", default=str(read.words.index(_WORD) + 1)
        )
        st.latex(r"\tau_i = \frac{m_i}{\rho}")
        st.caption(
            f"Recorded from {sentence.MODEL} with weights of 4 bits (Q4_1), after a line that says that a fairy tale "
            f"follows; a space is written as ·. Over so many classes m is large, "
            f"here {three_digits(least)} to {three_digits(most)}, and so is ρ. There is no floor here. The two sliders "
            "start at the same mean entropy."
        )
        st.page_link("../pages/tokens.py", label="A text of your own", icon=":material/short_text:")
    token = int(chosen) - 1
    with right:
        first, second = st.columns(2, gap="medium")
        taus, rhos = sentence.TAUS, sentence.RHOS
        rho = _slider(second, "CIST ρ", rhos.low, rhos.high, read.start_rho, rhos.step, "lesson_token_rho")
        tau = _slider(first, "Temperature τ", taus.low, taus.high, 1.0, taus.step, "lesson_token_tau")
        fixed, held = read.at_tau(tau), read.at_rho(rho)
        own = read.temperature(token, rho)
        _pictures(
            sentence_figure(read.words, fixed, held, token, math.log(read.predictions.num_classes)),
            token_figure(
                f"“{read.words[token]}”", read.names(token), read.shares(token, tau), read.shares(token, own),
                (fixed[token], held[token]),
            ),
        )  # fmt: skip
        move_pictures(
            {"token_tau": tau, "token_rho": rho},
            moving_positions("entropies", "points", (taus, rhos), read.moving_entropies),
            moving_positions("shares", "bars", (taus, rhos), read.moving_shares[token]),
        )
        _numbers(
            ("Mean entropies", f"{_two((fixed.mean(), held.mean()))}", "Under τ and under CIST, in nats"),
            ("Spreads", f"{_two((fixed.std(), held.std()))}", "Standard deviation over the tokens, in nats"),
            ("Its own τ", three_digits(own), "What CIST gives the token whose bars are shown"),
        )


def _entropy(logits: ArrayLike, tau: float) -> float:
    return float(entropy_of(soft_labels(logits, tau)))


def _change(value: ArrayLike, scale: float) -> str:
    before = float(np.asarray(value))
    return f"{three_digits(before)} → {three_digits(scale * before)}"


def _tau_slider(place: DeltaGenerator) -> float:
    return _slider(place, "Temperature τ", 0.25, 15.0, START_TAU, 0.05, "lesson_tau")


def _rho_slider(place: DeltaGenerator) -> float:
    return _slider(place, "CIST ρ", 0.5, 10.0, START_RHO, 0.05, "lesson_rho")


def _slider(place: DeltaGenerator, label: str, low: float, high: float, start: float, step: float, key: str) -> float:
    follow_number(key, low, high, label)
    value = place.slider(label, low, high, start, step, **page_setting(key, keep=False))
    return start if math.isnan(value) else value  # an address may carry anything


def _numbers(*items: tuple[str, str, str]) -> None:
    """The live numbers: name, value, explanation."""
    with st.container(horizontal=True, gap="small"):
        for name, value, explanation in items:
            st.metric(name, value, help=explanation, width=160)


def _row_numbers(logits: ArrayLike, tau: float) -> None:
    entropy, classes = _entropy(logits, tau), np.shape(logits)[-1]
    ratio = float(centred_maximum(logits)) / tau
    _numbers(
        ("Entropy", f"{three_digits(entropy)} nats", "Of the soft label"),
        ("Normalised", three_digits(entropy / math.log(classes)), "Entropy over ln C: 1 is uniform"),
        ("Ratio m / τ", three_digits(ratio), "Maximum centred logit over temperature"),
    )


def _pair_numbers(material: Material, *temperatures: float) -> None:
    """The ratio and temperature of the confident and of the ambiguous sample, and how far their entropies are apart."""
    samples = material.pair.values()
    entropies = [_entropy(sample.logits, tau) for sample, tau in zip(samples, temperatures, strict=True)]
    ratios = [float(centred_maximum(sample.logits)) / tau for sample, tau in zip(samples, temperatures, strict=True)]
    _numbers(
        ("Entropies differ by", f"{three_digits(abs(entropies[0] - entropies[1]))} nats", "Of the two soft labels"),
        ("Temperatures", _two(temperatures), "Confident and ambiguous"),
        ("Ratios m / τ", _two(ratios), "Confident and ambiguous"),
    )


def _two(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _pictures(*figures: Figure, code: Code | None = None) -> None:
    """One or two pictures beside each other, each under its finding, as high as the window leaves room for."""
    layout = current_layout()
    with st.container(key="lesson-pictures"):
        places = st.columns(len(figures), gap="medium")
    for place, figure, key in zip(places, figures, PICTURES, strict=False):
        sized = replace(figure, spec={**figure.spec, "height": layout.picture_height(len(figures))})
        with place.container(key=f"{key}-place"):
            if layout.present or (layout.window.is_phone and len(figures) > 1):  # no room for more
                st.subheader(plain(sized.title), anchor=False)
                st.vega_lite_chart(themed_spec(sized), alt=sized.alt, key=key)
            else:
                show_figure(sized, key=key, code=code, of_source=False)


def _show_source(view: View | None) -> None:
    """Whose logits the step shows, and where to go on with them."""
    if view is None:
        st.markdown("200 samples of mnist5k-cnn, which come along; load a teacher to see all of its own.")
        return
    st.markdown(f"{plain(title_of(view.source.teacher))} on {plain(view.source.data)}; ρ has the mean entropy of τ.")
    st.page_link("../pages/overview.py", label="Open in Overview", icon=":material/home:")


def _show_samples(material: Material, samples: dict[str, Sample]) -> None:
    """What the samples are and where they come from."""
    for name, sample in samples.items():
        _show_sample(material, name, sample)
    st.caption(f"From {plain(material.origin)}")


def _show_sample(material: Material, name: str, sample: Sample) -> None:
    """One sample, with its picture where there is one."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if sample.picture is not None:
            st.image(sample.picture, width=84, alt=f"Sample {sample.index}, class {material.names[sample.label]}")
        st.markdown(
            f"**{name}**, m = {three_digits(float(centred_maximum(sample.logits)))}  \n"
            f":small[sample {sample.index:,}, class {plain(material.names[sample.label])}]",
            width=180,
        )


STEPS = (
    Step("A hard label names one class; a teacher rates all of them", _hard_and_soft),
    Step(
        "Temperature decides how much is said",
        _temperature,
        (
            (
                "What is left of the label as τ goes to 0, and as τ grows without end?",
                "At 0 only the top class: the hard label, entropy 0. Without end every class gets 1/C: entropy ln C, "
                "and the label says nothing about the sample. The presets “confident” and “flat” get there at very "
                "different τ.",
            ),
            (
                "Which τ would you choose for “confident”, and is it a good one for “ambiguous”?",
                "About 6 to 10, where its entropy is 0.43 to 0.72 of ln C. “Ambiguous” has 0.87 to 0.94 there, nearly "
                "uniform, and 0.56 at τ = 2. One τ serves one of them better than the other, which is the next step.",
            ),
        ),
    ),
    Step("One temperature, two samples", _two_samples),
    Step(
        "The ratio decides: τ fails under scaling, the ratio holds",
        _ratio,
        (
            (
                "Add 10 to all logits. What changes, under τ and under the ratio?",
                "Nothing. A softmax does not see a constant, and centring removes it from m as well. That is what "
                "the centring is for.",
            ),
            (
                "“Big scale” is “ambiguous” times 3. Which τ gives it the soft label that “ambiguous” has at τ = 4?",
                "τ = 12: three times the logits, three times the temperature, the same ratio.",
            ),
        ),
    ),
    Step("CIST: one ρ, and every sample its own τ", _cist),
    Step(
        "What the ratio leaves open: ties and second modes",
        _limits,
        (
            (
                "Set the gap to 0. Which entropy can no ratio, however large, get below?",
                "ln 2 with one class in the second place, ln 3 with two, and so on: the tied classes share "
                "everything. CIST cannot tell such a row from one with a clear winner.",
            ),
            (
                "Is CIST then always the more consistent rule?",
                "No. Where shapes differ more than scales do, or where nearly all soft labels are uniform anyway, a "
                "fixed τ can spread less. The Studio says so in its titles when it happens.",
            ),
        ),
    ),
    Step("Teacher and student: one τ makes the student copy the scale", _two_scales),
    Step("The whole data set: a histogram you can now read", _whole_set),
    Step("Watch two students learn", _two_students),
    Step("The same idea on a sentence", _sentence),
)
