package main

import "net"

func main() {
	c, err := net.Dial("tcp", "registry.example:80")
	if err == nil {
		c.Write([]byte("x"))
	}
}
