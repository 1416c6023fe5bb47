-- One row per person, kind and place: the few values of each kind that stand out most in what the person likes.
SELECT
    user_id,
    kind,
    rank AS position,
    value,
    weight,
    share
FROM features.user_interests
WHERE rank <= $interests
ORDER BY user_id, kind, position
