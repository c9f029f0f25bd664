package main

import (
	"crypto/aes"
	"os"
)

func main() {
	c, _ := aes.NewCipher([]byte(os.Args[1]))
	b := make([]byte, 16)
	c.Encrypt(b, b)
	println(b[0])
}
