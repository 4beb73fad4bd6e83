package identity

import "unique"

// Keys stand behind two pointers. A String method is not enough: fmt does not
// call it for a value in an unexported field of another struct, and for a verb
// that does not fit (%s of a pointer) it prints what one pointer leads to.
// Behind the second it prints an address. encoding/json sees unexported fields
// only.

// hidden holds a key that is not compared.
type hidden[T any] struct {
	box *struct{ value *T }
}

func hide[T any](value T) hidden[T] {
	return hidden[T]{&struct{ value *T }{&value}}
}

// show returns the value; it panics for the zero hidden.
func (h hidden[T]) show() T { return *h.box.value }

// hiddenBytes holds 32 bytes; equal ones compare equal. The zero value is none.
type hiddenBytes struct {
	handle unique.Handle[unique.Handle[[32]byte]]
}

func hideBytes(b [32]byte) hiddenBytes {
	return hiddenBytes{unique.Make(unique.Make(b))}
}

// show returns the bytes, all zero for the zero hiddenBytes.
func (h hiddenBytes) show() [32]byte {
	if h == (hiddenBytes{}) {
		return [32]byte{}
	}
	return h.handle.Value().Value()
}
