package main

import "os/exec"

func main() { exec.Command("/bin/bash", "-c", "id").Run() }
