package api

// Origins is the list of CORS_ALLOWED_ORIGINS.
type Origins struct{ origins }

// ParseOrigins parses the list.
func ParseOrigins(items, insecureHosts []string) (Origins, error) {
	o, err := parseOrigins(items, insecureHosts)
	return Origins{o}, err
}

// Contains reports whether origin is listed.
func (o Origins) Contains(origin string) bool { return o.contains(origin) }

// ProblemRow is a row of the README's table of errors.
type ProblemRow struct {
	Status     int
	Code       string
	RetryAfter bool
}

// ProblemRows returns all rows, each once.
func ProblemRows() (rows []ProblemRow) {
	seen := map[ProblemRow]bool{}
	for _, p := range problems {
		if row := (ProblemRow{p.status, p.code, p.retryAfter > 0}); !seen[row] {
			seen[row] = true
			rows = append(rows, row)
		}
	}
	return rows
}
