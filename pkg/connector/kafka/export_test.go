package kafka

// TransactionID returns the transactional id of a committable.
func TransactionID(b []byte) string {
	c, err := readCommittable(b)
	if err != nil {
		panic(err)
	}
	return c.id
}
