package rest

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestThrowable reads the object with Java, where there is one, through a class of the same name and fields as Flink's.
func TestThrowable(t *testing.T) {
	message, stack := "savepoint 2 failed: äöü \U0001F4A5 \x00 end", strings.Repeat("long ", 20_000)
	object, err := base64.StdEncoding.DecodeString(throwable("rivulet.Failure", message, stack))
	if err != nil {
		t.Fatal(err)
	}
	javac, err := exec.LookPath("javac")
	if err != nil {
		t.Log("javac is not on the path: only the first bytes are looked at")
		if want := "\xac\xed\x00\x05sr\x00)org.apache.flink.util.SerializedThrowable"; !strings.HasPrefix(string(object), want) {
			t.Errorf("%q", object[:len(want)])
		}
		return
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "org/apache/flink/util/SerializedThrowable.java")
	if err := os.MkdirAll(filepath.Dir(source), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(source, []byte(javaReader), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), javac, "-encoding", "UTF-8", "-d", dir, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(javac), "java"), "-Dstdout.encoding=UTF-8", "-Dfile.encoding=UTF-8", "-cp", dir, "org.apache.flink.util.SerializedThrowable")
	cmd.Stdin = strings.NewReader(string(object))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if d := cmp.Diff("rivulet.Failure|"+message+"|"+stack[:65531]+"|true", string(out)); d != "" {
		t.Errorf("%.2000s", d)
	}
}

const javaReader = `package org.apache.flink.util;

import java.io.*;

public class SerializedThrowable extends Exception implements Serializable {
	private static final long serialVersionUID = 7284183123441947635L;
	private final byte[] serializedException = null;
	private final String originalErrorClassName = null;
	private final String fullStringifiedStackTrace = null;

	public static void main(String[] args) throws Exception {
		Object o = new ObjectInputStream(System.in).readObject();
		Class<?> c = SerializedThrowable.class;
		String s = c.getDeclaredField("originalErrorClassName").get(o) + "|" + ((Throwable) o).getMessage() + "|"
			+ c.getDeclaredField("fullStringifiedStackTrace").get(o) + "|" + (c.getDeclaredField("serializedException").get(o) == null);
		System.out.write(s.getBytes("UTF-8"));
		System.out.flush();
	}
}
`
