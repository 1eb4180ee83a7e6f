package api

// ProblemRow is a row of the table of problems, for the test that holds the README to it.
type ProblemRow struct {
	Status       int
	Code, Detail string
	RetryAfter   bool
}

// ProblemRows lists the table, each code once.
func ProblemRows() (rows []ProblemRow) {
	seen := map[string]bool{}
	for _, p := range problems {
		if !seen[p.code] {
			rows = append(rows, ProblemRow{p.status, p.code, p.detail, p.retryAfter > 0})
		}
		seen[p.code] = true
	}
	return rows
}
