// The page of a profile: HTML, CSS and JavaScript in one, without anything from elsewhere.
#include "debug/profile_page.h"

namespace vellum {

std::string_view profile_page() {
  static constexpr std::string_view kPage = R"PAGE(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Vellum profile</title>
<style>
body{font:14px/1.4 system-ui,sans-serif;margin:1.5em;max-width:1400px;color:#222;background:#fff}
h1{font-size:1.4em}h2{font-size:1.1em;margin-top:1.8em}
table{border-collapse:collapse}td,th{padding:1px 10px;text-align:right}td.l,th.l{text-align:left}
tr.f{cursor:pointer}tr.f:hover{background:#eef}
code,pre{font:12px/1.5 ui-monospace,monospace}
.bar{display:inline-block;height:.8em;background:#d2691e}
td.o{background:#d8f0e0}td.b{background:#dce8f4}td.i{background:#f6dcdc}tr.cut td{border-top:1px solid #bbb}.columns{display:flex;gap:3em;flex-wrap:wrap}
#flame{position:relative;overflow:hidden;border:1px solid #ccc}
#flame div{position:absolute;height:17px;font:11px/17px system-ui,sans-serif;overflow:hidden;white-space:nowrap;box-sizing:border-box;border:1px solid #fff;padding:0 3px;cursor:pointer}
svg{border:1px solid #ccc;background:#fafafa}.key span{display:inline-block;margin-right:1.2em}.key i{display:inline-block;width:.9em;height:.9em;margin-right:.3em}
.dim{color:#777}
</style></head><body>
<h1>Vellum profile of a guest</h1><p id="head"></p>
<h2>Call stacks</h2><p class="dim">Width is the share of samples; the outermost caller is on top. Click to look closer, click the top to go back.
Stacks follow frame pointers, and end where the guest's code keeps none.</p><div id="flame"></div>
<h2>Functions</h2><p class="dim">Click one for the instructions that were met in it. Tier: what had the
code when it was met, an <i>optimized</i> region, the <i>baseline</i>, or the <i>interpreter</i>. Host bytes: of the instruction's own baseline code (+ those that rarely run;
<i>handler</i>: it calls the interpreter's function), and of its optimized region for each of the region's guest instructions.</p><table id="functions"></table>
<h2>Where instructions ran, over time</h2><div class="key" id="key"></div><svg id="tiers" width="1200" height="160"></svg>
<h2>Events per million instructions, over time</h2><div id="events"></div>
<h2>Modes</h2><table id="modes"></table>
<h2>Instructions that are functions of the emulator</h2><table id="callouts"></table>
<h2>TLB misses</h2><div class="columns"><div><p class="dim">by function</p><table id="walks"></table></div><div><p class="dim">by page</p><table id="walkedPages"></table></div></div>
<h2>Code that the guest overwrote</h2><div class="columns"><div><p class="dim">blocks, by the function that wrote</p><table id="overwriters"></table></div><div><p class="dim">blocks, by page of RAM</p><table id="overwrittenPages"></table></div></div>
<script>
"use strict";
const data=/*DATA*/null;
const el=(tag,parent,text,cls)=>{const e=document.createElement(tag);if(text!==undefined)e.textContent=text;if(cls)e.className=cls;parent.appendChild(e);return e};
const $=id=>document.getElementById(id);
const percent=(a,b)=>b?(100*a/b).toFixed(1)+" %":"";
$("head").textContent=`${data.samples} samples, one every ${data.interval} instructions; ${data.instructions} instructions, ${data.seconds} s of virtual time.`;
const color=name=>{let h=0;for(const c of name)h=(h*31+c.charCodeAt(0))>>>0;return `hsl(${20+h%40},${60+h%30}%,${62+(h>>8)%16}%)`};
function flame(node,path){
  const box=$("flame");box.textContent="";const width=box.clientWidth||1200;let depth=0;
  const draw=(n,x,w,level,trail)=>{
    if(w<2||level>60)return;depth=Math.max(depth,level);
    const d=el("div",box,w>30?n.n:"");d.style.cssText=`left:${x}px;width:${w}px;top:${level*17}px;background:${color(n.n)}`;
    d.title=`${n.n}: ${n.v} samples, ${percent(n.v,data.flame.v)}`;
    d.onclick=()=>level==0&&path.length?flame(path[path.length-1],path.slice(0,-1)):flame(n,n===node?path:path.concat([node]));
    let at=x;for(const c of n.c.slice().sort((a,b)=>b.v-a.v)){const cw=w*c.v/n.v;draw(c,at,cw,level+1);at+=cw}
  };
  draw(node,0,width,0);box.style.height=(depth+1)*17+"px";
}
flame(data.flame,[]);
{
  const table=$("functions");const head=el("tr",table);
  for(const [text,cls] of [["self"],["share"],["with callees"],["function","l"],["optimized"],["baseline"],["interpreter"],["","l"]])el("th",head,text,cls);
  for(const f of data.functions){
    const row=el("tr",table,undefined,"f");
    el("td",row,f.self);el("td",row,percent(f.self,data.samples));el("td",row,percent(f.total,data.samples));el("td",row,f.n,"l");
    f.tiers.forEach((n,k)=>el("td",row,percent(n,f.self)));
    const bar=el("span",el("td",row,undefined,"l"),undefined,"bar");bar.style.width=(300*f.self/data.samples)+"px";
    let open=null;
    row.onclick=()=>{
      if(open){open.remove();open=null;return}
      open=document.createElement("tr");row.after(open);const cell=el("td",open,undefined,"l");cell.colSpan=8;const inner=el("table",cell);
      const top=el("tr",inner);
      for(const [text,cls] of [["samples"],["share"],["address","l"],["bytes","l"],["instruction","l"],["tier","l"],["host bytes: baseline"],["in a region, each"]])el("th",top,text,cls);
      let end=0;
      for(const [address,samples,bytes,text,tiers,hot,cold,handler,regionBytes,regionInsns] of f.code){
        const r=el("tr",inner,undefined,end&&end!==Number(address)?"cut":"");end=Number(address)+bytes.split(" ").join("").length/2;
        el("td",r,samples);el("td",r,percent(samples,f.self));
        for(const t of [address,bytes,text])el("code",el("td",r,undefined,"l"),t);
        const most=tiers.indexOf(Math.max(...tiers));el("td",r,["optimized","baseline","interpreter"][most],"l "+"obi"[most]);
        el("td",r,hot+cold?hot+(cold?" + "+cold:"")+(handler?", handler":""):"");
        el("td",r,regionInsns?(regionBytes/regionInsns).toFixed(1):"");
      }
      if(!f.code.length)cell.textContent="No instructions were kept for this function.";
    };
  }
}
document.querySelector("tr.f")?.click();
const svg=(parent,name,attributes)=>{const e=document.createElementNS("http://www.w3.org/2000/svg",name);for(const k in attributes)e.setAttribute(k,attributes[k]);parent.appendChild(e);return e};
{
  const chart=$("tiers"),m=data.moments,names=["optimized regions","interpreter, one by one","baseline and interpreter's blocks"],colors=["#2e8b57","#b22222","#4682b4"];
  names.forEach((n,i)=>{const s=el("span",$("key"));el("i",s).style.background=colors[i];s.append(n)});
  for(let i=0;i<m.length;i++){
    const before=i?m[i-1]:[0,0,0,0,0,0,0,0,0],total=m[i][0]-before[0];if(total<=0)continue;
    const x=1200*before[0]/m[m.length-1][0],w=1200*total/m[m.length-1][0];
    const region=Math.min(total,m[i][1]-before[1]),single=Math.min(total-region,m[i][2]-before[2]);let y=160;
    [region,single,total-region-single].forEach((v,k)=>{const h=160*v/total;y-=h;svg(chart,"rect",{x,y,width:w+.5,height:h,fill:colors[k]})});
  }
}
{
  const m=data.moments,series=[["translated guest instructions",3],["callouts",4],["page walks (TLB misses)",5],["blocks overwritten (self-modifying code)",6],["exceptions",7],["interrupts",8]];
  for(const [name,index] of series){
    const rates=m.map((x,i)=>{const b=i?m[i-1]:[0,0,0,0,0,0,0,0,0];return x[0]>b[0]?1e6*(x[index]-b[index])/(x[0]-b[0]):0}),most=Math.max(1,...rates);
    const p=el("p",$("events"),`${name}: ${m[m.length-1][index]} in all, at most ${Math.round(most)} `);el("br",p);
    const chart=svg(p,"svg",{width:1200,height:50});
    svg(chart,"polyline",{fill:"none",stroke:"#4682b4",points:rates.map((r,i)=>`${(1200*m[i][0]/m[m.length-1][0]).toFixed(1)},${(48-46*r/most).toFixed(1)}`).join(" ")});
  }
}
for(const [n,v] of data.modes){const r=el("tr",$("modes"));el("td",r,n,"l");el("td",r,v);el("td",r,percent(v,data.samples))}
for(const id of ["callouts","walks","walkedPages","overwriters","overwrittenPages"]){
  for(const [n,v] of data[id]){const r=el("tr",$(id));el("td",r,n,"l");el("td",r,v)}
  if(!data[id].length)el("td",el("tr",$(id)),"none","dim l");
}
</script></body></html>
)PAGE";
  return kPage;
}

}  // namespace vellum
