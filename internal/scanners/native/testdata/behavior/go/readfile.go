package main

import "os"

func main() { b, _ := os.ReadFile("a"); println(len(b)) }
