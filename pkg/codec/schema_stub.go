package codec

// Schema describes an encoding.
type Schema struct{}
