package sandbox

var (
	Encode = encode
	Decode = decode
)
