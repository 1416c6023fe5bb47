"""The promises of the door: the newest decision counts, silence counts as the basis says, and everything obeys."""

from collections.abc import Iterator

import pytest

from tasks import history
from tasks.errors import ConfigurationError
from tests.sql.spec import Night, open_night

CONSENT = [purpose for purpose in history.PURPOSES if purpose not in {"personalization", "analytics"}]


@pytest.fixture
def night() -> Iterator[Night]:
    opened = open_night()
    yield opened
    opened.con.close()


def allowed(night: Night, purpose: str) -> dict[str, bool]:
    return dict(night.con.execute(f"SELECT user_id, {purpose} FROM staging.people").fetchall())


@pytest.mark.parametrize("purpose", history.PURPOSES)
def test_silence_is_read_as_the_basis_of_the_purpose_says(night: Night, purpose: str) -> None:
    night.landed(users="user_id\nada")

    withheld = night.open()

    assert allowed(night, purpose) == {"ada": purpose not in CONSENT}
    assert withheld[purpose] == (1 if purpose in CONSENT else 0)


@pytest.mark.parametrize("purpose", history.PURPOSES)
def test_only_a_readable_yes_is_a_yes(night: Night, purpose: str) -> None:
    said = ["true", "t", "yes", "y", "1", "TRUE", "Yes", "false", "no", "0", "nope", "maybe", "2", "truee", "-"]
    rows = "\n".join(f"u{n:02} | {purpose} | {word} | 2026-02-01 00:00:00+00" for n, word in enumerate(said))
    night.landed(consents=f"user_id | purpose | granted | recorded_at\n{rows}")

    withheld = night.open()

    assert allowed(night, purpose) == {f"u{n:02}": n < 7 for n in range(len(said))}
    assert withheld[purpose] == 8


@pytest.mark.parametrize("purpose", history.PURPOSES)
def test_the_newest_decision_wins_whatever_landed_last(night: Night, purpose: str) -> None:
    night.landed(
        consents=f"""
        user_id | purpose   | granted | recorded_at            | landed_on              | landed_file | landed_row
        ada     | {purpose} | yes     | 2026-02-02 00:00:00+00 | 2026-02-03 00:00:00+00 | a.csv       | 1
        ada     | {purpose} | no      | 2026-02-01 00:00:00+00 | 2026-02-09 00:00:00+00 | a.csv       | 1
        bob     | {purpose} | yes     | 2026-02-02 00:00:00+00 | 2026-02-03 00:00:00+00 | a.csv       | 9
        bob     | {purpose} | no      | 2026-02-02 00:00:00+00 | 2026-02-04 00:00:00+00 | a.csv       | 1
        cyn     | {purpose} | yes     | 2026-02-02 00:00:00+00 | 2026-02-03 00:00:00+00 | a.csv       | 9
        cyn     | {purpose} | no      | 2026-02-02 00:00:00+00 | 2026-02-03 00:00:00+00 | b.csv       | 1
        dan     | {purpose} | yes     | 2026-02-02 00:00:00+00 | 2026-02-03 00:00:00+00 | a.csv       | 9
        dan     | {purpose} | no      | 2026-02-02 00:00:00+00 | 2026-02-03 00:00:00+00 | a.csv       | 10
        """
    )

    night.open()

    assert allowed(night, purpose) == {"ada": True, "bob": False, "cyn": False, "dan": False}


@pytest.mark.parametrize("purpose", history.PURPOSES)
def test_a_decision_recorded_or_landed_after_the_cut_is_not_there_yet(night: Night, purpose: str) -> None:
    night.landed(
        users="user_id\nada\nbob",
        consents=f"""
        user_id | purpose   | granted | recorded_at            | landed_on
        ada     | {purpose} | yes     | 2026-02-28 00:00:00+00 | 2026-03-01 00:00:00+00
        ada     | {purpose} | no      | 2026-03-01 00:00:00+00 | 2026-03-01 00:00:00+00
        bob     | {purpose} | yes     | 2026-02-27 00:00:00+00 | 2026-03-01 00:00:00+00
        bob     | {purpose} | no      | 2026-02-28 00:00:00+00 | 2026-03-01 00:00:01+00
        """,
    )

    night.open()

    assert allowed(night, purpose) == {"ada": True, "bob": True}


def test_a_purpose_is_recognised_however_it_is_written(night: Night) -> None:
    night.landed(
        consents="""
        user_id | purpose         | granted | recorded_at
        ada     | personalization | yes     | 2026-02-01 00:00:00+00
        ada     | Personalization | no      | 2026-02-02 00:00:00+00
        """
    )
    night.con.execute("UPDATE history.consents SET purpose = purpose || ' ' WHERE granted = 'no'")

    night.open()

    assert allowed(night, "personalization") == {"ada": False}


def test_a_purpose_that_is_not_configured_changes_nothing(night: Night) -> None:
    night.landed(consents="user_id | purpose | granted | recorded_at\nada | telepathy | no | 2026-02-01 00:00:00+00")

    withheld = night.open()

    assert allowed(night, "personalization") == {"ada": True}
    assert withheld == {purpose: 1 if purpose in CONSENT else 0 for purpose in history.PURPOSES}


def test_each_table_holds_those_who_allow_its_purpose_and_nobody_in_particular(night: Night) -> None:
    night.landed(
        events="user_id | occurred_at\n"
        + "\n".join(f"{user} | 2026-02-20 00:00:00+00" for user in ("ada", "bob", "cyn", "-")),
        users="user_id\nada\nbob\ncyn",
        consents="""
        user_id | purpose         | granted | recorded_at
        ada     | personalization | no      | 2026-02-01 00:00:00+00
        bob     | analytics       | what    | 2026-02-01 00:00:00+00
        """,
    )

    withheld = night.open()

    night.shows("staging.events", "user_id\nbob\ncyn\n-\n")
    night.shows("staging.activity", "user_id\nada\ncyn\n-\n")
    night.shows("staging.users", "user_id\nbob\ncyn")
    assert (withheld["personalization"], withheld["analytics"]) == (1, 1)


def test_moods_places_and_income_pass_only_with_consent_and_never_without_a_name(night: Night) -> None:
    night.landed(
        events="""
        user_id | occurred_at            | dwell_seconds | scroll_speed | region | country
        ada     | 2026-02-20 00:00:00+00 | 1             | 2            | here   | DE
        bob     | 2026-02-20 00:00:00+00 | 1             | 2            | here   | DE
        cyn     | 2026-02-20 00:00:00+00 | 1             | 2            | here   | DE
        -       | 2026-02-20 00:00:00+00 | 1             | 2            | here   | DE
        """,
        users="user_id | income_band | region\nada | high | here\nbob | high | here\ncyn | high | here",
        consents="""
        user_id | purpose       | granted | recorded_at
        ada     | mood_signals  | yes     | 2026-02-01 00:00:00+00
        bob     | precise_place | yes     | 2026-02-01 00:00:00+00
        cyn     | income        | yes     | 2026-02-01 00:00:00+00
        """,
    )

    night.open()

    for table in ("events", "activity"):
        night.shows(
            f"staging.{table}",
            """
            user_id | dwell_seconds | scroll_speed | region | country
            ada     | 1             | 2            | -      | DE
            bob     | -             | -            | here   | DE
            cyn     | -             | -            | -      | DE
            -       | -             | -            | -      | DE
            """,
        )
    night.shows(
        "staging.users",
        """
        user_id | income_band | region
        ada     | -           | -
        bob     | -           | here
        cyn     | high        | -
        """,
    )


def test_the_configured_basis_is_the_one_that_counts(night: Night) -> None:
    basis = night.run.config.privacy.basis | {"personalization": "consent", "mood_signals": "legitimate_interest"}
    night.setting("privacy", basis=basis)
    night.landed(
        events="user_id | occurred_at | dwell_seconds\nada | 2026-02-20 00:00:00+00 | 1\n- | 2026-02-20 00:00:00+00 | 1"
    )

    withheld = night.open()

    night.shows("staging.events", "user_id | dwell_seconds\n- | 1")
    night.shows("staging.activity", "user_id | dwell_seconds\nada | 1\n- | 1")
    assert (withheld["personalization"], withheld["mood_signals"]) == (1, 0)


def test_nobody_at_all_is_a_night_too(night: Night) -> None:
    night.landed()

    assert night.open() == dict.fromkeys(history.PURPOSES, 0)


def test_a_purpose_that_nothing_would_honour_is_refused(night: Night) -> None:
    night.setting("privacy", basis={**night.run.config.privacy.basis, "telepathy": "consent"})
    night.landed()

    with pytest.raises(ConfigurationError, match="telepathy"):
        night.open()


@pytest.mark.parametrize("table", ["items", "users"])
def test_a_snapshot_holds_only_its_newest_landing(night: Night, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = f"{table[:-1]}_id"
    versions = f"""
        {key} | landed_on
        old   | 2026-02-01 00:00:00+00
        both  | 2026-02-01 00:00:00+00
        both  | 2026-02-02 00:00:00+00
        new   | 2026-02-02 00:00:00+00
    """
    night.landed(**{table: versions})
    plain = dict(history.params(night.run, night.run.as_of))
    monkeypatch.setattr(history, "params", lambda run, cut: plain | {f"{table}_are_snapshots": True})

    night.open()

    night.shows(f"staging.{table}", f"{key}\nboth\nnew")
