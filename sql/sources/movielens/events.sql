-- One event per rating and per tag. A tag is what one person wrote about a film in their own words, so it is a comment of
-- theirs and not a word of the catalogue: in this set no tag was given to a film by five people.
-- A month lands on its last day, when all of it has happened. Seconds count from 1970 in UTC, so months are those of UTC.
WITH acts AS (
    SELECT
        'rate-' || userId || '-' || movieId AS event_id,
        userId AS user_id,
        'rate' AS event_type,
        movieId AS item_id,
        to_timestamp(CAST(timestamp AS BIGINT)) AS occurred_at,
        -- Half stars from 0.5 to 5: already the contract's scale, on which nobody gives 0.
        CAST(rating AS DECIMAL(9, 4)) AS value,
        NULL AS query_text
    FROM ratings
    UNION ALL
    SELECT
        -- In order of time, so that a later tag never renumbers an earlier one.
        'tag-' || userId || '-' || movieId || '-' || CAST(row_number() OVER (
            PARTITION BY userId, movieId ORDER BY CAST(timestamp AS BIGINT), tag
        ) AS VARCHAR) AS event_id,
        userId AS user_id,
        'comment' AS event_type,
        movieId AS item_id,
        to_timestamp(CAST(timestamp AS BIGINT)) AS occurred_at,
        NULL AS value,
        tag AS query_text
    FROM tags
)

SELECT last_day(CAST(occurred_at AT TIME ZONE 'UTC' AS DATE)) AS landed_on, *
FROM acts
ORDER BY landed_on, occurred_at, event_id
