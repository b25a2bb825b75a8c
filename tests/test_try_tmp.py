import sys, time
sys.path.insert(0, "/work/main/tests")
from test_devices import *
def test_it(experiment, tmp_path):
    tasks = (os.environ.get("T") or ",".join(TASKS)).split(",")
    variants = (os.environ.get("V") or "plain").split(",")
    def commands(kind, more):
        return [["fit","-c",str(experiment(t)),*flags(t,v),*more,f"--runs={tmp_path}/{kind}",f"--experiment={t}", f"--run_id={v.replace(' ','-')}"] for t in tasks for v in variants]
    for kind, more, n in (("one",["--trainer.devices=1"],1),("ddp",["--trainer.devices=2",*DDP],2),("fsdp",["--trainer.devices=2",*FSDP],2)):
        t=time.time(); run_all(commands(kind,more),tmp_path,n); print(kind,time.time()-t)
    for t in tasks:
        for v in variants:
            v=v.replace(' ','-')
            a=losses(tmp_path/"one"/t/v)
            for kind in ("ddp","fsdp"):
                b=losses(tmp_path/kind/t/v)
                print(t,v,kind,len(a),len(b),max(abs(x-y) for x,y in zip(a,b)))
                last=[{k:x for k,x in m.items() if k.startswith("val")} for m in (metrics(tmp_path/"one"/t/v)[-1], metrics(tmp_path/kind/t/v)[-1])]
                print(last)
