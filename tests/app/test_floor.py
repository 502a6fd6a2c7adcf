"""The floor of CIST in the app: one setting beside rho, in the address, behind every number, and said on every page."""

from __future__ import annotations

import re
import shlex
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from command_line import run
from streamlit.testing.v1 import AppTest

from app.forms.references import Named
from app.pages import find_pages
from app.state import Source
from cist_core.compare.anchors import default_pair
from cist_core.compare.matching import matched_pair
from cist_core.compare.ranking import rank_rules
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.logits.logit_set import LogitSet
from tests.app.driver import note_of, open_app, view_of

PAGES = [
    page.name for page in find_pages() if page.section in ("Look", "Decide") and page.needs_source and not page.hidden
]
SMALL_LOGITS = {"teacher": "mnist5k-mlp"}
"""A teacher with so small logits that the floor of 1 holds on some samples at its own pair."""


def expected_ratio(app: AppTest) -> np.ndarray:
    """The ratios of the definition, ``min(rho, m / floor)``, in float64."""
    view = view_of(app)
    maximum = view.source.curves.statistics.maximum.astype(np.float64)
    return np.minimum(view.rho, maximum / view.floor) if view.floor else np.full(len(maximum), view.rho)


def said(app: AppTest) -> str:
    """All small print of the page, without the sidebar's."""
    return "\n".join(caption.value for caption in app.main.caption)


def ranked_rho(app: AppTest) -> float:
    """The ρ whose entropies are compared."""
    view = view_of(app)
    mean = float(f"{view.fixed.profile.mean:.4g}")
    return rank_rules(view.source.curves, mean, floor=view.floor, rules=["cist"])[0].rule.rho


def link_of(app: AppTest) -> dict[str, str]:
    app.context = {"url": "http://127.0.0.1/"}
    app.run()
    return {key: values[-1] for key, values in parse_qs(urlsplit(app.sidebar.code[-1].value).query).items()}


def test_the_floor_is_1_until_somebody_moves_it() -> None:
    app = open_app(**SMALL_LOGITS, tau="1.5")  # sharp enough for the floor to hold on some
    assert app.number_input(key="floor").value == 1.0
    view = view_of(app)
    assert 0 < view.cist.profile.at_floor < 1
    np.testing.assert_allclose(view.cist.ratios, expected_ratio(app), rtol=1e-6)


def test_a_floor_in_the_address_is_the_floor_of_every_number() -> None:
    pure, held = open_app(**SMALL_LOGITS, floor="0"), open_app(**SMALL_LOGITS, floor="2.5", tau="4")
    for app, floor in ((pure, 0.0), (held, 2.5)):
        assert view_of(app).floor == floor
        np.testing.assert_allclose(view_of(app).cist.ratios, expected_ratio(app), rtol=1e-6)
        assert not app.error
        assert not app.warning
    assert view_of(pure).cist.profile.at_floor == 0
    assert view_of(held).cist.profile.at_floor > 0.1


def test_another_floor_changes_the_numbers_and_keeps_tau_and_the_match() -> None:
    app = open_app(**SMALL_LOGITS, tau="1.5")  # where the floor of 1 holds on many
    before, tau = view_of(app), view_of(app).tau
    app.number_input(key="floor_box").set_value(0.0).run()
    after = view_of(app)
    assert after.tau == tau
    assert after.matched
    assert after.rho == pytest.approx(matched_pair(after.source.curves, tau=tau, floor=0.0).rho, abs=0.0051)
    assert after.rho != before.rho
    assert after.cist.profile.std != before.cist.profile.std


def test_a_new_floor_puts_both_sliders_into_the_address_where_they_start_elsewhere_now() -> None:
    app = open_app(**SMALL_LOGITS)
    tau = view_of(app).tau
    assert "tau" not in app.query_params  # it stands at its start
    app.number_input(key="floor_box").set_value(2.0).run()
    assert view_of(app).tau == tau != pytest.approx(view_of(app).source.default_pair(2.0).tau, abs=0.0051)
    assert app.query_params["tau"] == f"{tau:g}"
    again = view_of(open_app(**{key: app.query_params[key] for key in app.query_params}))
    assert (again.tau, again.rho, again.floor) == (tau, view_of(app).rho, 2.0)


@pytest.mark.parametrize("floor", [0.0, 0.5, 1.0, 1.6])
def test_moving_either_slider_matches_under_the_floor(floor: float) -> None:
    app = open_app(**SMALL_LOGITS, floor=f"{floor:g}")
    app.slider(key="tau").set_value(2.0).run()
    curves = view_of(app).source.curves
    assert app.slider(key="rho").value == pytest.approx(matched_pair(curves, tau=2.0, floor=floor).rho, abs=0.0051)
    app.slider(key="rho").set_value(3.0).run()
    assert app.slider(key="tau").value == pytest.approx(matched_pair(curves, rho=3.0, floor=floor).tau, abs=0.0051)
    assert view_of(app).matched


def test_a_tau_below_the_floor_has_no_partner_and_the_sidebar_says_what_to_do() -> None:
    app = open_app(floor="2")
    app.slider(key="tau").set_value(1.5).run()
    view = view_of(app)
    assert not view.matched
    assert app.slider(key="rho").value == 15  # the nearest
    note = note_of(app)
    share = f"{view.cist.profile.at_floor * 100:.1f} % of the samples"
    assert note == (
        f"Not matched: no ρ up to 15 is as sharp as τ = 1.5, as the floor of 2 holds on {share} there. Raise τ, or "
        "lower the floor."
    )
    # Both remedies work.
    app.number_input(key="floor_box").set_value(0.5).run()
    assert view_of(app).matched
    app.number_input(key="floor_box").set_value(2.0).run()
    app.slider(key="tau").set_value(3.0).run()
    assert view_of(app).matched


def test_a_link_to_a_pair_that_the_floor_keeps_apart_stays_tied() -> None:
    app = open_app(floor="2", tau="1.5", rho="15")
    assert app.toggle(key="matched").value is True
    assert "as the floor of 2 holds on" in note_of(app)


def test_a_new_source_starts_at_its_own_pair_under_the_floor_that_is_set() -> None:
    app = open_app(floor="4")
    app.selectbox(key="teacher_box").select("cifar100-resnet20").run()
    view = view_of(app)
    assert view.floor == 4
    assert view.tau == pytest.approx(view.source.default_pair(4.0).tau, abs=0.0051)
    assert view.rho == pytest.approx(view.source.default_pair(4.0).rho, abs=0.0051)
    assert abs(view.source.default_pair(4.0).rho - view.source.default_pair(1.0).rho) > 0.1
    assert view.matched


def test_a_floor_above_the_usual_temperatures_still_opens_on_a_matched_pair() -> None:
    view = view_of(open_app(floor="8"))
    assert view.matched
    assert view.tau > 8


def test_ties_that_no_rho_sharpens_have_a_pair_to_start_at_with_and_without_a_floor() -> None:
    """Two tied classes of three keep ln 2; constant rows have no pair."""
    rows = LogitSet.create(np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]]) * 4, [0, 1])
    with pytest.raises(CistError, match="tied"):
        default_pair(EntropyCurves.from_logits(LogitSet.create(np.ones((2, 3)))), floor=0.0)
    source = Source.of("tied", "rows", "all", Named("tied", "rows", "all"), rows)
    for floor in (0.0, 1.0):
        pair = source.default_pair(floor)
        assert (pair.rho, pair.floor) == (3.0, floor)
        assert np.log(2) < pair.mean_entropy < np.log(3)


@pytest.mark.parametrize("text", ["abc", "-1", "21", "nan", "inf", "1,5", ""])
def test_a_floor_that_cannot_be_is_refused_with_a_sentence(text: str) -> None:
    app = open_app(floor=text)
    view = view_of(app)
    assert view.floor == 1.0
    assert view.matched
    assert app.main.warning[0].value == (
        f"The link asks for {f'“{text}”' if text else 'nothing'} as floor of τ, which is no number from 0 to 20; shown "
        "is 1."
    )
    app.number_input(key="floor_box").set_value(2.0).run()
    assert not app.main.warning
    assert view_of(app).floor == 2.0


def test_a_slider_of_the_address_that_cannot_be_is_named_as_well() -> None:
    app = open_app(tau="abc", rho="99")
    assert "asks for “abc” as τ, which is no number from 0.25 to 20" in app.main.warning[0].value
    assert "asks for “99” as ρ, which is no number from 0.5 to 15" in app.main.warning[0].value
    app.slider(key="tau").set_value(3.0).run()
    assert not app.main.warning  # ρ has moved with it


def test_the_link_holds_the_floor_and_opens_the_same_view() -> None:
    app = open_app("ratio", **SMALL_LOGITS)
    assert link_of(app)["floor"] == "1"
    app.number_input(key="floor_box").set_value(1.5).run()
    query = link_of(app)
    assert query["floor"] == "1.5"
    again = open_app("ratio", **query)
    assert (view_of(again).tau, view_of(again).rho, view_of(again).floor) == (view_of(app).tau, view_of(app).rho, 1.5)
    np.testing.assert_array_equal(view_of(again).cist.temperatures, view_of(app).cist.temperatures)


def test_the_floor_stays_from_page_to_page() -> None:
    app = open_app(**SMALL_LOGITS)
    app.number_input(key="floor_box").set_value(1.5).run()
    for page in ("ratio", "rho", "overview"):
        app.switch_page(f"../pages/{page}.py").run()
        assert view_of(app).floor == 1.5


@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_on_how_many_samples_the_floor_holds(page: str) -> None:
    tab = {"teachers_tab": "Tables"} if page == "teachers" else {}
    app = open_app(page, **SMALL_LOGITS, student="mnist5k-cnn-small", rho="8", **tab)
    view = view_of(app)
    both = (view.source.curves, view.source.student.curves)
    teacher, student = (float(np.mean(curves.statistics.maximum / view.rho < 1)) for curves in both)
    assert 0 < student < teacher < 1
    if page == "teachers":  # each teacher at a ρ of its own
        table = app.dataframe[0].value.set_index("Teacher")
        row = table.loc[table.index[0]]
        share = float(np.mean(view.source.curves.statistics.maximum / row["ρ"] < 1))
        assert row["At the floor"] == pytest.approx(share * 100)
        assert "the floor is 1" in said(app)
    else:
        assert (
            f"The floor of 1 holds on {teacher * 100:.1f} % of the samples for the teacher and on "
            f"{student * 100:.1f} % for the student"
        ) in said(app)
    pure = open_app(page, **SMALL_LOGITS, floor="0")
    assert re.search("[Ww]ithout a floor|the floor is 0", said(pure))
    assert not pure.error


@pytest.mark.parametrize(("page", "row"), [("entropy", 1), ("rho", 1)])
def test_the_tables_of_profiles_have_a_column_for_it(page: str, row: int) -> None:
    app = open_app(page, **SMALL_LOGITS, **{f"{page}_tab": "Tables"})
    table = app.dataframe[0].value
    assert table["At the floor"].iloc[row] == pytest.approx(view_of(app).cist.profile.at_floor * 100)
    assert np.isnan(table["At the floor"].iloc[0])  # the fixed temperature has none


def test_the_ranking_is_under_the_floor() -> None:
    tab = {"rho_tab": "Compare entropies"}
    low, high = (open_app("rho", **SMALL_LOGITS, floor=floor, tau="1.7", **tab) for floor in ("0", "1.5"))
    tables = [app.dataframe[0].value for app in (low, high)]
    spreads = [table.loc[table["Rule"].str.startswith("CIST"), "Spread"].item() for table in tables]
    assert spreads[0] < spreads[1]
    share = float(np.mean(view_of(high).source.curves.statistics.maximum / ranked_rho(high) < 1.5))
    assert f"The floor of 1.5 holds on {share * 100:.1f} % of the samples" in said(high)
    barred = open_app("rho", **SMALL_LOGITS, floor="3", tau="1.7", matched="false", **tab)
    note = barred.dataframe[0].value.set_index("Rule")["Note"]["CIST"]
    assert "fixed temperature 3, as no temperature of CIST falls below" in note


def test_the_inspector_says_of_a_sample_whether_it_is_at_the_floor() -> None:
    app = open_app("samples", **SMALL_LOGITS, rho="8")
    at_floor = view_of(app).cist.at_floor
    shown = []
    for index in (int(np.flatnonzero(at_floor)[0]), int(np.flatnonzero(~at_floor)[0])):
        app.number_input(key="samples_at").set_value(index).run()
        words = [item.value for item in app.main.markdown]
        captions = [item.value for item in app.main.caption]
        assert "τᵢ, CIST" in captions
        shown.append("1 (floor)" in words or "1.00 (floor)" in words)
    assert shown == [True, False]


@pytest.mark.parametrize("floor", ["0", "1.5"])
def test_the_command_line_and_the_code_beside_a_chart_carry_the_floor(floor: str, capsys) -> None:
    app = open_app("entropy", **SMALL_LOGITS, floor=floor, entropy_tab="Tables")
    spread = app.dataframe[0].value["Spread"].iloc[1]
    command, python = (code.value for code in app.code[:2])
    code, out, _ = run(capsys, *shlex.split(command)[1:], "--json")
    assert code == 0
    assert f'"std": {spread:.6f}'[:12] in out
    exec(python, {})
    assert f"floor={floor}" in capsys.readouterr().out


def test_without_a_floor_distill_says_what_becomes_of_students() -> None:
    said = "Without a floor nothing holds the scale of the student's logits"
    app = open_app("distill", floor="0")
    assert [said in warning.value for warning in app.main.warning] == [True]
    assert sum(said in caption.value for caption in app.main.caption) == 1  # beside the press that queues six runs
    app = open_app("distill")
    assert not any(said in each.value for each in (*app.main.warning, *app.main.caption))
