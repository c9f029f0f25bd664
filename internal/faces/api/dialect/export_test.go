package dialect

// Unmarshal reads the JSON of a request.
var Unmarshal = unmarshal
