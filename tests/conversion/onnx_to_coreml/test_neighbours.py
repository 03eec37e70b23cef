"""A KNNImputer in ONNX, against scikit-learn's own: one file as skl2onnx writes it, of nine rows and three columns."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import onnx
import pytest

import coreproof as cp

impute = pytest.importorskip("sklearn.impute")

_FILE = (
    "c-qAqOKcm*l`D}F`Sc$<v17+h!q#a-$BMX;KcYXf<-e22jn%|P5OljD*YZN-Qsypg**PR=ky8)OspkMK`ayu4b7-8zxurmX0s(Sut}T#TZbj3X"
    "*_qv$+1VupIjIlU?(BPS-kW*<85WDE=&v`;w&!i`8LG~hvoo{hVcVS{125#vT<ya#*agN7RB(OI_V(n;h0Ff3y^O!)U_a#RelU+ln(Z~WZZ|Ej"
    "9bkyT<#s^7FG7d~gBT3$wA$XLRd2U8I*#vK^vf&;FP>#Xl@Z9>o36jx_`n!o1hhzKG90!2z;eBYvq{M0&*Ilg2?m1p?jcU#IwU|T&sDUSj(40!"
    "x9+rT34%~7U87%KwKpphP+WJMjfUIucjq|a<B&xF6>RUGRaLkuapW?D-zh65%HMIFyBK!(n&aQHHyjEx4RjbGI*r%%?mL~fMTQ7_!^>^&O+3JO"
    "(Eu^plYG$Ywl?lr)~q_u0^VFmK%rqO2^C@Jq8;3FI??V#Yj8=AI@Pk*9joEi@p3dat(LukiHwTx7<;tYCJNJNw`|vgW#IEswhyCSbt`Ch>bI<Q"
    "&vRQF-N5N!iayaUME+V>4J@ZyZ@LY~_7e0yG$@@TguygYAZl%>$dF{6Yj8r$kWu>o0(#QwdW62kC#biZ-4?MHlpIZP`^bO-(aBjzq4T52uuDI8"
    "wND|wU_#788lnHE6lR}NoKNH441HL!-3{=t)x&T76e2)WykmD<d$s8hl*<jr3*6uyfkKm4mzQt6@bdEV<#4L$%6M^bvQ!x~3}cB*R~aiBlfyOq"
    "MtxT0N%{)k^MB#ES(z@DDB@ltNB<c)_CWr!M+!P$xlcijax<6v?47rF&OH3){#T1%eD}iQd;k8&r||Vp{(9}>{hx;4{!afsc+@?0`{b94@b&Lc"
    "z4c&V@!H1^@%ZHF2amp^-@o|o&ksMkXw&Cs-aGi|TMr(c`sm^}pZsCtlf~O7|AohM@6x#sS4M~|AtOh^mqGfnP#F!S46Pu18wlU#-<%@RXB41l"
    "pdrY?Kyh$&H$;mne_6^yZW1j`g0!oX#+Syo1&~}&+1M;kblP{Vmh1bjw?@V*(Wcc-ppxsk!BNZSTkZLQ?FE%*pm4`-cAd(O$>F8&@k)^`Hg=48"
    "vaup|wKuk*V4p@K47+M6_|I|tCx|9Q6u3Tc3WveiL?w$ld5Z?e!U}n=01P@_gX(Ez6bhJVCy4xc?KMzW1e;SxL>cd!<SP)ffeOTIeT+K61-g1O"
    "B$6VRx~|6{jUP1b-)mXEd*8t!II!kPlv}yob)5S&%GG|J5DmmdM$gay+V%VpM<;LTb^eu7JPxsjfHHghsfvc|j_s`x<1btz4;1-j2-gC7%?k`&"
    "ay+G#x*cGDv3!mYTgqLbT7ON_`7e#X>;O%uBzkY$6EyuanyOn(_h#TUtibX7c1O|py?k#bCJnwbd0Af*6sp^%VD>}dvv)X!r6h$piNZckVG3)Q"
    "NaNi_PU9#ll5MNvZR?Bu&p6^Df=HM8vRBpOYoWiW5(52kE!aea+uxeS@(P%9TidTIXp9MLS_vOD&9V0t2V$8gxy-7s+C_Yornsm*1;#y`hLR6-"
    "2I12@!71XvOl>aViv}cL#Dj9J!ZHX1I1RyJ9VZW_lA%YiF9M%gfUc%NAB2b*R3!NWsRh!2pNmP4th&Kn*LRe<skQ)-CW4?^xEAPynY+b5tLZ#<"
    "OH>^s+#LyAGYfgH2l8A3`7lq=lKzB-qcFk8PKWH*bzD$5Ojf=eNyI8qfsqI?RD&3G7Q_V<Hfla??WZATLwH0(t!~q*9wU43YPU&24}mzb^b&%b"
    "RT2D{NLjN_Xf!53)h@y`LANy^C@IQ!{O&5jS?R7)oJ-<oVC<k`%MR!x5&xpoYE{NyD8TW<KSLvO^tu$U$g3bRrpiePZh_n-U`r`57&BJg0;LN;"
    "r55PSM|9@4K<8x4k)Y58zuThhusVOG+mh;h72T{R(ak>4%fQwU!WnTo&}dkPiSZ1cX*4Lz97J+~&d^Z7xosVxx_|z5*ABHtV=V$5G~B`kNvqqU"
    "ie_&za|zi7*?FVVhSO=``hyB2ne_9(*o7E|Nw6SFaDc%rL>yp2@#a}`rl_?TEF6r$%n)pTP6IYS2XRzHd7Qs&P_xE=!=MS_x+E9E1PU#B4pa6V"
    "&x?9)0$(jO*l_O<R?fM1n7<$+5cza8M)NhoIv$@D&G-Pw-=vH!zjC`12+7){nyh_Z1ccw~tm?$$Uc2L$Cujn<(GK{)h-Z0@yLM|8zr;yg^i-`K"
    "LZon%0`hJikVknnNkGE*yS+MR+lkNi3Z;{1oM2m|`$j=}XEEP@|4x)MPJ_C<xMso|t;t1ZKwS8+6)-|znYF5h^IDQLuUwSzzALG?_E9PHs(sEu"
    "EEXs$ma+tQiKWOUv#ol^hL|jf3x`nG>-xlW+Z*d4OTKJ5zi4l~Tp5SqrrlX{{2=o4*wC@b$DTGSl_W=9ib|_w1!pCMhZr2~r`EhiTc2J-w{69+"
    "FS>lLG6k?|2lZQ))FZB4haN=4E)ln2On5vbe7@<l94|<=m(rZbw*#<4bRu_&!UouBgwxUKA8Y0J9EhZ~S^P^f$PTW<@mOpD6yXif!Jtyxb9~J0"
    "x})nK^ikcN$Vg9P;*##g+Ml-Kj|_NPTyfg8^qjk)uMn2LW&7*pA?C!#!i~X$LB|!lPBS3F<5Gg9K56Of3`8Ix6P4uPF^Wksu1fK66h;IovZGG9"
    "bQ3!eawO9%j}tbn=v|QHLNDFwGe9i$>MiuK^V{#IZM8EHvHxo$>0`vjMEgYTaXpJGJ?T<nuaNnfcIJ~wgWA)soffLe<gWBnRGxr%)8)QdoUcXz"
    "3G54?=!r~XcSJ&lO3<+&dpXc9^)qvTn2^pdCKl=v=){2@dz24s>Xg_q8D;e<q)OF`+z=rrp1ZMJg^i~=h2c05YCK$o6(-zODKEbVY!Ij{khYHK"
    "S@nbJ?=aO&f0$VE<7~>Flv#;>R7|;l*&9u#@O{^QFR`LcThEi?gR&zOW#?F}c{Fv}erm?U5YpE5Ls%7A&?IR4d3hIpOw=;fu$IwqCdLXebL3I)"
    "O5!|4jUa#80eg~XW|rM-lJ0Z4;L>nmY~pxGydl;$-wDbPn?`wv{T=H#b;rHqga%Q5f|0P~;VC{$$<g2n^s#=c>#dW+W<NgZ*@>MmId!A_a#Pb4"
    "PtlX9i#xMFa6dUl+;&;D)t<1vqU$SQ=N|jv)%I$_d0?6Zq0*tE?=+oypuNc;Sh|rwFtZSjfS|k_b11~j!aD>>)kR}M7nAZCHG<EA-T=@(mLqGw"
    "DjD^8kc|rD`6BZ-wP)H<HS;Vm`F@DD^(<RM0dH1NMKf8wy_K>wa&mD%IbTa%FNOMy+*<CLiJt(;=R}2_$uH8F85e1=YmW1HU98EIMwc9F7C>-#"
    "{Ps*V+g#Rcb3!)ID;7pb^AH&lP<C*&N2bcwnRA@8Ina7xsq9TPngcuz$6gH$tP#~4zSwc>faOR;hsb0-BW=W<378Bgt_#_kFnf%LSy97xMw=G5"
    "<r6x72((~n@%s5NUW*11T@(}BI~T%>Vvy|;&=j=<XLG~$8qqbfq4V^e()m@i!zT1+Hjtz#AM?lu)wLz%^o6&Ko>FFufHa1A0n(w-(`*TJ9~Gzg"
    "ny|1YWFn$nqL?w3x`1z!Ad&`~#kQD#O|T`?Hh(HRp+qkn25#Fc=e@S)d|(WUmjHUFYX95=Pis;&vb#6iU9TY|YxGc)CRcJoCFX5Yn2G4d!cBJ*"
    "4~dx=PwUj%7b%VGe%jYLp?&>WvyC79qR%NbN)Hwol0;xXCx9@4Jh?2Aoc%(tYZHB@i>W!&ku0x#OqT+2%%fSDi;&csEv0J*AW}^PH=8!QcdOis"
    "t-Z*T3fiw9BWs<}4t^<)a7Y`hRPrZ4m|IRekbFn6n!I;gyPCX_q`^XR>XsGO&*?*~%vi7Mz_l|<A|ub=S2lAdTF4`s+rdS4(YM+kiK7`LGP!s~"
    "cQcu}`86kS1E&?b@V-u8wv}!rr$rOe0g5@N2KBRX;*=CaETXf_L^-um=R^ZddP(IKoVrEr{Ft(~oqr54QV+7jG@nUc)?l}9#0&ZSCjh#;`?Z6>"
    "DG5hUm}z3WBZTRzoj4zEK!UF3U|7EO?|LG*c<bNw^a<k(7T*z4mxx0yv~tdT5wa#k$yzYw7X!67)EZ7xM(XRK>;(N#T7gNAyxHxl{EExeavq{_"
    "kYZPO8oCx{<7#65-$4*Rqj6^2ewgZ@9fH<b-HiqYYM>`1e)upZJ#hJE<#z^*I89uft#)j$e#`ug0XxYhBjb#G$r|>{Ds3z&-=9?-oN-o$z|Mv}"
    "ua>|#gYqy?G|1yp{CJi=4u4=2Dh~!=1RJBr8T*d`e=~R(!s(&NjTAq51Xi{=rN&L}zT}@|7p||ouq;>xDsD#WPHosCQM!Isghfha%hhPVkmbgf"
    "L9YvPWZR|9ua9a<2nTcu$4%LUC_+U~CX&us!fcgzAz?Jp+I~HXVGEGP9BAmO7v7X2>VkYPO(>)Grd1eLRkI3LAPXMtPp^pZXQi0B4svn@J+RU4"
    "lq$(oN~+%)3C&4G&6el!)L4n?N`LkG{bA7j*hHwT#1ctYK?wzxTzchcIhLrVc$t+_Rm~w<L8P^Uhf*$OZ@0FZ1<LLg+M~yLk1_d6gs9z=nrKb4"
    "{*UYzbU&`E{fzy%F72}JP)swv`!&jI4sv})`iUTmjS>LRCC3$-FosjOW>fCteKG(^5J_7}y!%Rtcb^;ZM=`8KOe(Hlj4+y-ON<#j040AXA)Z$o"
    "H^>oRR{x-9#JCZL2@)+&%E9s=3*tAjLU4?}mA=RS0D7H}9R"
)
"""KNNImputer(n_neighbors=3) by skl2onnx, opset 18: serialised, compressed, as text."""


@pytest.fixture(scope="module")
def written() -> onnx.ModelProto:
    return onnx.load_model_from_string(zlib.decompress(base64.b85decode(_FILE)))


def table_of(model: onnx.ModelProto) -> Any:
    """What it was fitted on."""
    held = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    return next(array for array in held if array.shape == (9, 3) and array.dtype == np.float32)


@pytest.mark.parametrize(("precision", "apart"), [("fp32", 1e-6), ("fp16", 2e-3)])
def test_what_is_missing_is_what_neighbours_have(
    written: onnx.ModelProto, precision: Any, apart: float, tmp_path: Any
) -> None:
    onnx.save(written, tmp_path / "imputer.onnx")
    judge = impute.KNNImputer(n_neighbors=3).fit(table_of(written))
    made = cp.convert(tmp_path / "imputer.onnx", "mlprogram", precision=precision, shapes={"X": [(1, 30), 3]})
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(30, 3)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.4] = np.nan
    rows[0] = np.nan  # nothing in common with any row: the means of the columns
    rows[1] = [0.5, -1, 2]  # nothing missing
    with cp.session(made) as running:
        for fed in (rows, rows[:1], rows[1:2], rows[2:3]):
            (found,) = running.run({"X": fed}).values()
            np.testing.assert_allclose(found, judge.transform(fed), atol=apart)
