package realetcd

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel kill a member when the test's process ends, however it ends.
func endWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
