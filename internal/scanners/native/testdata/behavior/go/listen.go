package main

import "net"

func main() {
	l, err := net.Listen("tcp", ":80")
	if err == nil {
		l.Accept()
	}
}
