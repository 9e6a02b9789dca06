package rest

// Target is target, without a job.
func (s *Server) Target(dir string) (string, error) { return s.target(dir, nil) }

// Below is target, with roots alone.
func Below(roots []string, dir string) (string, error) {
	return (&Server{roots: roots}).target(dir, nil)
}

// Routes returns the table, as "METHOD PATH", and why each is not served; empty for those that are.
func Routes() (all []string, why map[string]string) {
	why = map[string]string{}
	for _, r := range routes {
		all = append(all, r.method+" "+r.path)
		why[r.method+" "+r.path] = r.why
		if (r.serve == nil) != (r.why != "") {
			why[r.method+" "+r.path] = "BUG: served and not"
		}
	}
	return all, why
}
