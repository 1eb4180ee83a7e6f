package sethealth

// Parsers of what Sethealth sends, for fuzzing and tables.
var (
	DecodeToken     = decodeToken
	ParseRetryAfter = parseRetryAfter
)
