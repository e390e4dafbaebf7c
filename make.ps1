# Windows: .\make.ps1 demo   or   .\make.ps1 test   (also: gallery, check, bench)
param([string]$Target = "demo")
$ErrorActionPreference = "Stop"
Set-Location $PSScriptRoot
$Python = ".venv\Scripts\python.exe"

function Invoke-Checked { & $args[0] $args[1..($args.Length - 1)]; if ($LASTEXITCODE) { exit $LASTEXITCODE } }

if (-not (Test-Path $Python)) { Invoke-Checked python -m venv .venv }
$Pip = @("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", "constraints.txt")
Invoke-Checked $Python @Pip torch
Invoke-Checked $Python @Pip -r requirements.txt
if ($Target -notin "demo", "gallery") { Invoke-Checked $Python @Pip -r requirements-dev.txt }

switch ($Target) {
    "demo" { Invoke-Checked $Python -m animator_core demo --output demo.mp4 }
    "gallery" { Invoke-Checked $Python -m animator_core gallery --output gallery }
    "test" { Invoke-Checked $Python -m pytest --cov --cov-report=term }
    "check" {
        Invoke-Checked $Python -m ruff format --check .
        Invoke-Checked $Python -m ruff check .
        Invoke-Checked $Python -m pyright
        Invoke-Checked .venv\Scripts\lint-imports.exe
    }
    "bench" { Get-ChildItem benchmarks\*.py | ForEach-Object { Invoke-Checked $Python $_.FullName } }
    default { Write-Error "unknown target $Target; use demo, gallery, test, check or bench" }
}
