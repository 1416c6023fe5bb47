-- One row per household that told about itself, on the first day: the source dates no answer, and a profile that came with
-- the first purchase would never meet a household without one. Of the other households nothing is known, so none lands.
-- Home, marriage, household and children have no column in the contract.
SELECT
    (SELECT min(landed_on) FROM events) AS landed_on,
    household_id AS user_id,
    -- The middle of the age band in 2017, the year of the data: exact as to the band, never as to the year. Of the open
    -- band any year up to 1952 says the same.
    CAST(CASE age
        WHEN '19-24' THEN 1995
        WHEN '25-34' THEN 1987
        WHEN '35-44' THEN 1977
        WHEN '45-54' THEN 1967
        WHEN '55-64' THEN 1957
        WHEN '65+' THEN 1947
    END AS INTEGER) AS birth_year,
    income AS income_band
FROM demographics
ORDER BY user_id
