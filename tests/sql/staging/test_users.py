from tests.sql.spec import Night


def test_the_newest_profile_of_each_person(night: Night) -> None:
    night.landed(
        users="""
        user_id | country | landed_on
        ada     | DE      | 2026-02-01 00:00:00+00
        ada     | FR      | 2026-02-02 00:00:00+00
        bob     | IT      | 2026-02-01 00:00:00+00
        """
    )

    night.open()

    night.shows("staging.users", "user_id | country\nada | FR\nbob | IT")
