package rest

import (
	"encoding/base64"
	"encoding/binary"
	"unicode/utf16"
)

// Java's serialization protocol, as far as it is needed here.
const (
	tcNull, tcClass, tcObject, tcString, tcEnd = 0x70, 0x72, 0x73, 0x74, 0x78

	scSerializable, scWriteMethod = 0x02, 0x01
)

// throwable returns the failure as the Java object that Flink's clients insist on reading: an org.apache.flink.util.SerializedThrowable without the exception that it
// usually carries (for which it then stands itself), in Java's serialization protocol and base 64.
//
//	AC ED 00 05                                      the stream's magic number and version
//	object, of class SerializedThrowable < Exception < Throwable
//	   Throwable:           cause, detailMessage, stackTrace, suppressedExceptions; end
//	   SerializedThrowable: fullStringifiedStackTrace, originalErrorClassName, serializedException
func throwable(class, message, stack string) string {
	b := []byte{0xAC, 0xED, 0, 5, tcObject}
	b = javaClass(b, "org.apache.flink.util.SerializedThrowable", 7284183123441947635, scSerializable,
		"Ljava/lang/String; fullStringifiedStackTrace", "Ljava/lang/String; originalErrorClassName", "[B serializedException")
	b = javaClass(b, "java.lang.Exception", -3387516993124229948, scSerializable)
	b = javaClass(b, "java.lang.Throwable", -3042686055658047285, scSerializable|scWriteMethod,
		"Ljava/lang/Throwable; cause", "Ljava/lang/String; detailMessage", "[Ljava/lang/StackTraceElement; stackTrace", "Ljava/util/List; suppressedExceptions")
	b = append(b, tcNull) // Throwable is the last class that is told

	b = append(b, tcNull)
	b = javaString(append(b, tcString), message)
	b = append(b, tcNull, tcNull, tcEnd)

	b = javaString(append(b, tcString), stack)
	b = javaString(append(b, tcString), class)
	b = append(b, tcNull)
	return base64.StdEncoding.EncodeToString(b)
}

// javaClass appends the description of a class, with its fields as "TYPE NAME".
func javaClass(b []byte, name string, uid int64, flags byte, fields ...string) []byte {
	b = javaString(append(b, tcClass), name)
	b = binary.BigEndian.AppendUint64(b, uint64(uid))
	b = append(b, flags, 0, byte(len(fields)))
	for _, f := range fields {
		typ, name := f, ""
		for i := range f {
			if f[i] == ' ' {
				typ, name = f[:i], f[i+1:]
			}
		}
		b = javaString(append(b, typ[0]), name)
		b = javaString(append(b, tcString), typ)
	}
	return append(b, tcEnd)
}

// javaString appends a string in Java's UTF-8, behind its length. What is more than 64 KB is cut off.
func javaString(b []byte, s string) []byte {
	at := len(b)
	b = append(b, 0, 0)
	for _, u := range utf16.Encode([]rune(s)) {
		if len(b)-at > 0xFFFF-3 {
			break
		}
		switch {
		case u != 0 && u < 0x80:
			b = append(b, byte(u))
		case u < 0x800:
			b = append(b, 0xC0|byte(u>>6), 0x80|byte(u&0x3F))
		default:
			b = append(b, 0xE0|byte(u>>12), 0x80|byte(u>>6&0x3F), 0x80|byte(u&0x3F))
		}
	}
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return b
}
