#Requires -RunAsAdministrator
# Leads Windows to containers by their addresses: a route for each of flatnet's networks, by
# way of the WSL distribution. WSL's address changes with each of its restarts, so run it
# after each; it changes nothing that is right already. For NAT mode: see wsl2.md.
param(
    [string[]]$Networks = @("10.87.1.0/24"), # also "A,B", as -File passes them
    [string]$Distribution = ""               # the default one
)
$ErrorActionPreference = "Stop"

$wsl = @()
if ($Distribution) { $wsl = @("-d", $Distribution) }
$shown = & wsl.exe @wsl -u root -- ip -4 -o addr show dev eth0 scope global
if ("$shown" -notmatch 'inet (\d+\.\d+\.\d+\.\d+)/') { throw "WSL's eth0 has no IPv4 address: $shown" }
$address = $Matches[1]
if (Get-NetIPAddress -IPAddress $address -ErrorAction SilentlyContinue) {
    throw "Windows has WSL's address ${address}: this is mirrored mode, where no route leads there"
}
$index = (Find-NetRoute -RemoteIPAddress $address)[0].InterfaceIndex

foreach ($network in $Networks -split ",") {
    $routes = @(Get-NetRoute -DestinationPrefix $network -InterfaceIndex $index -PolicyStore ActiveStore -ErrorAction SilentlyContinue)
    if (@($routes | Where-Object NextHop -eq $address).Count -eq 0) {
        New-NetRoute -DestinationPrefix $network -InterfaceIndex $index -NextHop $address -PolicyStore ActiveStore | Out-Null
    }
    $routes | Where-Object NextHop -ne $address | Remove-NetRoute -Confirm:$false
    "$network by way of $address"
}
