package native_test
import ("testing";"os";"path/filepath";"fmt";"strings";"os/exec";"strconv";"debug/buildinfo"
"github.com/loupe-sec/loupe/internal/formats/native")
func TestExp2(t *testing.T){
 if os.Getenv("EXP2")=="" {t.Skip()}
 ps,_:=filepath.Glob("/tmp/exp_native/m-*")
 for _,p:=range ps{
  data,_:=os.ReadFile(p); bs,notes:=native.Parse(data); if len(bs)!=1{t.Log(p,notes);continue}
  b:=bs[0]; if b.GoInfo==nil{t.Log(p,"NO GO");continue}
  bi,err:=buildinfo.ReadFile(p); bv:=""; if err==nil{bv=bi.GoVersion}
  want:=map[string]uint64{}
  q:=strings.TrimSuffix(strings.TrimSuffix(p,"-s"),"-pie")
  if !strings.HasSuffix(p,"-pie"){
  out,_:=exec.Command("go","tool","nm",q).Output()
  for _,l:=range strings.Split(string(out),"\n"){f:=strings.Fields(l); if len(f)>=3&&(f[1]=="T"||f[1]=="t"){a,_:=strconv.ParseUint(f[0],16,64); want[strings.Join(f[2:]," ")]=a}}}
  ok,bad,miss:=0,0,0
  for _,f:=range b.GoInfo.Functions{ a,has:=want[f.Name]; if !has{miss++} else if a==f.Addr{ok++}else{bad++; if bad<3{t.Log(f,a)}}}
  url:=""
  for _,s:=range b.Strings{ if strings.Contains(s.Value,"planted"){url+=" "+string(s.Kind)+":"+s.Value}}
  fmt.Println(filepath.Base(p),len(data)>>20,"MB",b.GoInfo.Version,bv==b.GoInfo.Version,b.GoInfo.Path,len(b.GoInfo.Settings),"funcs",len(b.GoInfo.Functions),"ok",ok,"bad",bad,"notinnm",miss,"nm",len(want),b.UserFunctions,b.Functions.Method,fmt.Sprintf("%.2f",b.Functions.Coverage),url,b.Notes,b.Flags)
 }
}
