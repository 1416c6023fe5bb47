-- What a weight, a DECIMAL(18, 9) below a billion, has decayed to; decay is 1 or a fraction of nine decimals. The product
-- of two such numbers has eighteen, and in 128 bits DuckDB rounds ten times as slowly as in 64; so whole part and fraction
-- are multiplied apart, which is as exact.
CREATE OR REPLACE TEMP MACRO decayed(weight, decay) AS
CAST(
    CASE
        WHEN decay = 1 THEN weight
        ELSE
            CAST(trunc(weight) AS DECIMAL(9, 0)) * CAST(decay AS DECIMAL(9, 9))
            + CAST(CAST(weight - trunc(weight) AS DECIMAL(9, 9)) * CAST(decay AS DECIMAL(9, 9)) AS DECIMAL(18, 9))
    END AS DECIMAL(18, 9)
)
