package synth_test
import ("testing";"strings";"time";"fmt";"github.com/loupe-sec/loupe/internal/formats/native/synth")
func TestZ(t *testing.T){
 const size = 1<<20
 run := func(name, in string){ s:=time.Now(); _,err:=synth.FromYAML([]byte(in)); e:=time.Since(s); m:=""; if err!=nil {m=err.Error()}; if len(m)>80 {m=m[:80]}; fmt.Printf("%-20s %8d %v %q\n",name,len(in),e,m)}
 for _, p := range []string{"- ","? ","a: ","- a\n", "'", "#\n", "a: b\n","\n a"," ", "\"a\" ", "\n- ", "\n-\n ", "a,", "k: v, ", "|\n", "- |\n ", "[],", "{},","\n? - ", ": ", "%", "---\n", "\t", "\r", "\\", "a\n\n"} {
   run(fmt.Sprintf("%q",p), ("format: "+strings.Repeat(p,size/len(p)))[:size])
   run(fmt.Sprintf("root %q",p), strings.Repeat(p,size/len(p))[:size])
   run(fmt.Sprintf("imports [%q",p), ("format: elf\nimports: ["+strings.Repeat(p,size/len(p)))[:size-1]+"]")
 }
 for _, st := range []string{"a:\n","-\n","- a:\n", "? a\n"} {
 var sb strings.Builder; for i:=0; sb.Len()<size-3000; i++ { sb.WriteString(strings.Repeat(" ",i)+st) }
 run("nest "+st, sb.String()) }
 run("list", "format: elf\nimports:\n"+strings.Repeat("- abcdefgh\n", 80000))
 var sb strings.Builder; for i := range 60000 { fmt.Fprintf(&sb, "- i%d\n", i)}
 run("imports", "format: elf\nimports:\n"+sb.String())
 run("imports pe", "format: pe\nimports:\n"+sb.String())
 run("hex", "format: elf\ncode: "+strings.Repeat("90 ", 340000))
}
