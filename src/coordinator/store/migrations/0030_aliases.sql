-- Public names of models (registry 3): one JSON document each, in the shape of the API.

CREATE TABLE model_aliases (
	id         TEXT    PRIMARY KEY CHECK (id <> ''),
	document   TEXT    NOT NULL,
	updated_us INTEGER NOT NULL
) STRICT;
