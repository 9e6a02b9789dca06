package s3

// NewOver returns a file system over a transport that is no network.
var NewOver = newFS
