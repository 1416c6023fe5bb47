from tests.sql.spec import Night


def test_the_first_few_of_each_kind_keep_their_share_of_the_whole(night: Night) -> None:
    night.setting("features", interests=1)
    night.given(
        "features.user_interests",
        """
        user_id | kind     | value | weight | share | rank
        ada     | brand    | Bolt  | 1      | 0.25  | 2
        ada     | brand    | Acme  | 3      | 0.75  | 1
        ada     | category | Cups  | 4      | 1     | 1
    """,
    )

    night.mart("user_interests")

    night.shows(
        "marts.user_interests",
        """
        user_id | kind     | position | value | weight | share
        ada     | brand    | 1        | Acme  | 3      | 0.75
        ada     | category | 1        | Cups  | 4      | 1
    """,
    )
