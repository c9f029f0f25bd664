package text_test
import ("testing";"os"
"github.com/loupe-sec/loupe/internal/formats/native/elf"
"github.com/loupe-sec/loupe/internal/formats/native/text")
func BenchmarkExp(b *testing.B){
  data,_:=os.ReadFile(os.Getenv("EXP"))
  m,err:=elf.Parse(data); if err!=nil{b.Fatal(err)}
  b.Run("extract",func(b *testing.B){ b.SetBytes(int64(len(data))); b.ReportAllocs(); for b.Loop(){text.Extract(m)}})
  tab:=text.Extract(m); tab.Glued=true
  b.Run("telling",func(b *testing.B){ b.SetBytes(int64(len(data))); b.ReportAllocs(); for b.Loop(){text.Telling(tab,200)}})
}
