package nft

import "testing"

func TestCommentAmongOtherUserData(t *testing.T) {
	tests := []struct {
		data []byte
		want string
	}{
		{[]byte{1, 2, 7, 7, commentTag, 3, 'h', 'i', 0}, "hi"},
		{[]byte{commentTag, 0}, ""},
		{nil, ""},
		{[]byte{commentTag}, ""},
		{[]byte{commentTag, 4, 'h', 'i', 0}, ""},
		{[]byte("ID:5d1f"), ""}, // as agents of other firewalls write it
	}
	for _, tt := range tests {
		if got := commentIn(tt.data); got != tt.want {
			t.Errorf("%v: got %q", tt.data, got)
		}
	}
}
